"""Prompts made and speech written down: files by URL, texts, what goes wrong, what is kept and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import web

from offhook.audio import pcm
from offhook.audio.resample import convert
from offhook.call.prompts import Source
from offhook.media.egress import AddressPolicy
from offhook.server import fetching, sounds, studio, tls
from offhook.server.clips import Clips
from offhook.server.fetching import Fetched, Fetcher, Stamp
from offhook.server.sounds import PromptError, PromptFault
from offhook.server.studio import Engines, Studio, StudioError
from offhook.speech.values import SpeechError
from offhook.testing.clock import run

OPEN = AddressPolicy(allow_private=True)


def sound(kind: str, rate: int, channels: int = 1, hz: float = 440, seconds: float = 1.0) -> bytes:
    """A sound file with a tone of -20 dBFS in every channel."""
    tone = pcm.tone(hz, rate, seconds, -20).astype(np.float64) / 32_768
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone[:, None], channels, axis=1), rate, format=kind)
    return file.getvalue()


class Shelf:
    """A `Fetch` with files on it; `asked` are the requests."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[tuple[str, Stamp]] = []
        self.etag = '"1"'

    async def __call__(self, url: str, known: Stamp) -> Fetched:
        self.asked.append((url, known))
        if url not in self.files:
            raise PromptError(PromptFault.DOWNLOAD, "HTTP 404")
        if known.etag == self.etag:
            return Fetched(None, known)
        return Fetched(self.files[url], Stamp(self.etag))


def made(tmp_path: Path, shelf: Shelf | None = None, largest: int = 1 << 30) -> Studio:
    return Studio(Clips(tmp_path / "prompts", largest), shelf or Shelf())


def read(path: Path) -> tuple[int, pcm.Samples]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), pcm.as_samples(file.readframes(file.getnframes()))


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("kind", "rate", "channels", "clip_rate"),
    [
        ("WAV", 8000, 1, 8000),
        ("WAV", 11_025, 2, 16_000),
        ("FLAC", 44_100, 2, 24_000),
        ("MP3", 44_100, 1, 24_000),
        ("OGG", 48_000, 2, 24_000),
        ("WAV", 24_000, 6, 24_000),
    ],
)
def test_a_file_of_any_kind_keeps_its_pitch_level_and_length(
    tmp_path: Path, kind: str, rate: int, channels: int, clip_rate: int
) -> None:
    shelf = Shelf(a=sound(kind, rate, channels))
    path = run(made(tmp_path, shelf).clip(Source("file", uri="a")))
    own, samples = read(path)
    assert own == clip_rate
    assert len(samples) == pytest.approx(own, rel=0.06), "MP3 and OGG pad"
    middle = samples[own // 4 : own * 3 // 4]
    assert pcm.tone_level(middle, 440, own) == pytest.approx(-20, abs=0.5)


def test_a_file_that_is_a_clip_already_is_kept_bit_for_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(-32_768, 32_767, 20_000, np.int16)
    file = io.BytesIO()
    soundfile.write(file, noise, 16_000, format="WAV")
    rate, samples = read(run(made(tmp_path, Shelf(a=file.getvalue())).clip(Source("file", uri="a"))))
    assert (rate, samples.tolist()) == (16_000, noise.tolist())


@pytest.mark.parametrize(
    "data",
    [b"", b"no sound", sound("WAV", 8000)[:20], bytes(10_000), sound("WAV", 8000, channels=17), sound("WAV", 3000)],
)
def test_what_is_no_sound_file_is_said(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path, Shelf(a=data)).clip(Source("file", uri="a")))
    assert caught.value.kind == "format"
    assert list((tmp_path / "prompts").iterdir()) == []


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = sound("FLAC", 4000, seconds=601)
    with pytest.raises(StudioError, match="longer than 600 s"):
        run(made(tmp_path, Shelf(a=long)).clip(Source("file", uri="a")))


def test_a_file_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="HTTP 404") as caught:
        run(made(tmp_path).clip(Source("file", uri="nowhere")))
    assert caught.value.kind == "download"


def test_a_file_is_asked_for_again_but_only_fetched_when_it_has_changed(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(a=sound("WAV", 8000))
        maker = made(tmp_path, shelf)
        first = await maker.clip(Source("file", uri="a"))
        shelf.files["a"] = sound("WAV", 16_000)
        assert await maker.clip(Source("file", uri="a")) == first
        assert read(first)[0] == 8000
        shelf.etag = '"2"'
        await maker.clip(Source("file", uri="a"))
        assert read(first)[0] == 16_000
        assert [stamp.etag for _, stamp in shelf.asked] == ["", '"1"', '"1"']

    run(main())


def test_a_file_with_a_cache_id_is_fetched_once(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(a=sound("WAV", 8000))
        maker = made(tmp_path, shelf)
        source = Source("file", uri="a", cache_id="greeting")
        paths = await asyncio.gather(*(maker.clip(source) for _ in range(5)))
        assert len(set(paths)) == len(shelf.asked) == 1
        assert await made(tmp_path).clip(source) == paths[0], "and by the next process not at all"

    run(main())


def test_a_clip_is_not_lost_while_it_is_asked_whether_it_has_changed(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(a=sound("WAV", 8000), b=sound("WAV", 8000))
        maker = made(tmp_path, shelf, largest=20_000)  # one of them
        maker.release(await maker.clip(Source("file", uri="a")))

        async def fetch(url: str, known: Stamp) -> Fetched:
            maker._fetch = shelf
            maker.release(await maker.clip(Source("file", uri="b")))
            return await shelf(url, known)

        maker._fetch = fetch
        assert (await maker.clip(Source("file", uri="a"))).exists()
        assert shelf.asked[-1] == ("a", Stamp('"1"'))

    run(main())


def test_what_cannot_be_made_is_not_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(a=b"no sound")
        maker = made(tmp_path, shelf)
        for uri in "ab":
            with pytest.raises(StudioError):
                await maker.clip(Source("file", uri=uri))
        assert not maker._clips._leases

    run(main())


def test_the_next_process_finds_the_clips_and_clears_away_what_was_not_finished(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(**{name: sound("WAV", 8000) for name in "abc"})
        maker = made(tmp_path, shelf)
        paths = [await maker.clip(Source("file", uri=name, cache_id=name)) for name in "abc"]
        for age, path in enumerate(paths):
            os.utime(path, (age, age))
        unfinished = paths[0].with_name(f"{paths[0].name}.123")
        other = paths[0].with_name("README")
        for path in (unfinished, other):
            path.write_bytes(b"")
        maker = made(tmp_path, shelf, largest=40_000)
        assert (unfinished.exists(), other.exists()) == (False, True)
        await maker.clip(Source("file", uri="a", cache_id="a"))  # used again: now b is the oldest
        shelf.files["d"] = sound("WAV", 8000)
        await maker.clip(Source("file", uri="d"))
        assert [path.exists() for path in paths] == [True, False, False]

    run(main())


def test_the_oldest_clips_go_but_none_that_is_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(**{name: sound("WAV", 8000) for name in "abcd"})
        maker = made(tmp_path, shelf, largest=40_000)  # two of them
        paths = {name: await maker.clip(Source("file", uri=name)) for name in "abc"}
        assert all(path.exists() for path in paths.values()), "all are in use"
        maker.release(paths["b"])
        paths["d"] = await maker.clip(Source("file", uri="d"))
        assert [name for name, path in paths.items() if path.exists()] == ["a", "c", "d"]

    run(main())


# ------------------------------------------------------------------------------------------------ over HTTP


async def serving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    use: Callable[[str, Fetcher], Awaitable[Any]],
    tmp_path: Path,
    policy: AddressPolicy = OPEN,
) -> Any:
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fetcher = Fetcher(policy, tls.client_context([]))
    try:
        return await use(f"http://127.0.0.1:{runner.addresses[0][1]}", fetcher)
    finally:
        await fetcher.close()
        await runner.cleanup()


@pytest.mark.sockets
def test_it_follows_redirects_and_revalidates(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            return web.Response(status=302, headers={"Location": "new?x=1"})
        if request.headers.get("If-None-Match") == '"e"':
            return web.Response(status=304)
        return web.Response(body=request.query["x"].encode(), headers={"ETag": '"e"'})

    async def use(url: str, fetcher: Fetcher) -> None:
        fetched = await fetcher(url + "/old", Stamp())
        assert fetched == Fetched(b"1", Stamp('"e"'))
        assert (await fetcher(url + "/new?x=1", fetched.stamp)).data is None

    asyncio.run(serving(handle, use, tmp_path))


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/missing", "HTTP 404"),
        ("/loop", "more than 3 redirects"),
        ("/inside", "169.254.169.254 is a link-local address"),
        ("/large", "larger than 0 MiB"),
        ("/scheme", "not an http or https URL"),
        ("/slow", "not there within 0.5 s"),
    ],
)
def test_what_cannot_or_must_not_be_fetched(
    tmp_path: Path, path: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LARGEST", 100_000)
    monkeypatch.setattr(fetching, "TOTAL_S", 0.5 if path == "/slow" else 30)
    elsewhere = {"/loop": "/loop", "/inside": "http://169.254.169.254/secrets", "/scheme": "file:///etc/passwd"}

    async def handle(request: web.Request) -> web.StreamResponse:
        if place := elsewhere.get(request.path):
            return web.Response(status=302, headers={"Location": place})
        if request.path == "/large":
            return web.Response(body=bytes(200_000))
        if request.path == "/slow":
            await asyncio.sleep(1)
        return web.Response(status=404)

    async def use(url: str, fetcher: Fetcher) -> None:
        with pytest.raises(PromptError, match=problem):
            await fetcher(url + path, Stamp())

    asyncio.run(serving(handle, use, tmp_path))


@pytest.mark.sockets
def test_the_address_policy_rules(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        raise AssertionError("it must not come")

    async def use(url: str, fetcher: Fetcher) -> None:
        with pytest.raises(PromptError, match="loopback"):
            await fetcher(url, Stamp())

    asyncio.run(serving(handle, use, tmp_path, AddressPolicy(allow_private=False)))


# ------------------------------------------------------------------------------------------------ speech


def test_a_text_is_said_and_written_down_again(tmp_path: Path) -> None:
    async def main() -> None:
        maker = made(tmp_path)
        path = await maker.clip(Source("text", text="I would like to come on Tuesday", locale="en-US"))
        rate, samples = read(path)
        assert rate == 24_000
        heard = convert(samples, rate, 16_000).tobytes()
        assert (await maker.recognise(heard, "en-US", ())).text == "i would like to come on tuesday"

    run(main())


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (Source("text", text="  "), "empty"),
        (Source("ssml", ssml=""), "empty"),
        (Source("text", text="Bonjour", locale="fr-FR"), "unsupported"),
        (Source("text", text="Hello", voice_kind="male"), "unsupported"),
        (Source("text", text="Hallo", voice_name="de-DE-KatjaNeural"), "unsupported"),
        (Source("ssml", ssml="<speak><voice xml:lang='fr-FR'>Bonjour</voice></speak>"), "unsupported"),
        (Source("ssml", ssml="<speak>no end"), "failed"),
        (Source("text", text="a" * 20_001), "format"),
    ],
)
def test_what_cannot_be_said(tmp_path: Path, source: Source, kind: str) -> None:
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path).clip(source))
    assert caught.value.kind == kind


def test_a_text_is_said_once_for_each_voice_and_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Source] = []

    def say(engine: str, options: object, source: Source, path: Path) -> None:
        said.append(source)
        path.write_bytes(b"RIFF")

    async def main() -> None:
        monkeypatch.setattr(sounds, "say", say)
        maker = made(tmp_path)
        hello = Source("text", text="Hello")
        paths = {await maker.clip(hello) for _ in range(3)}
        paths.add(await maker.clip(Source("text", text="Hello", voice_name="a")))
        paths.add(await maker.clip(Source("ssml", ssml="Hello")))
        other = Studio(Clips(tmp_path / "prompts"), Shelf(), Engines(options={"hibari": {"model": "b"}}))
        paths.add(await other.clip(hello))
        assert len(paths) == len(said) == 4

    run(main())


def test_the_parts_of_ssml_follow_each_other_with_their_pauses(tmp_path: Path) -> None:
    async def main() -> None:
        maker = made(tmp_path)
        rate, once = read(await maker.clip(Source("text", text="Hello")))
        _, twice = read(await maker.clip(Source("ssml", ssml="<speak>Hello<break time='2s'/>Hello</speak>")))
        assert len(twice) == 2 * len(once) + 2 * rate
        assert not twice[len(once) : len(once) + 2 * rate].any()
        _, slowly = read(await maker.clip(Source("ssml", ssml="<speak><prosody rate='slow'>Hello</prosody></speak>")))
        assert len(slowly) > 1.2 * len(once)
        assert pcm.level(once) == pytest.approx(-17, abs=3)

    run(main())


def test_a_language_that_is_not_understood(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path).recognise(bytes(32_000), "de-DE", ()))
    assert caught.value.kind == "unsupported"


def test_hold_music_joins_up_and_is_soft(tmp_path: Path) -> None:
    rate, samples = read(run(made(tmp_path).hold_music()))
    assert len(samples) == 8 * rate
    assert abs(int(samples[0]) - int(samples[-1])) < 50
    assert -40 < pcm.level(samples) < -20


# ------------------------------------------------------------------------------------------------ processes


async def elsewhere(tmp_path: Path, use: Callable[[Studio], Awaitable[None]]) -> None:
    maker = made(tmp_path)
    try:
        await use(maker)
    finally:
        await maker.close()
    assert not maker._pools
    assert not maker._work


@pytest.mark.sockets
def test_work_is_done_elsewhere_and_behind_what_calls_need(tmp_path: Path) -> None:
    async def use(maker: Studio) -> None:
        assert await maker._do(os.getppid) == os.getpid()
        assert await maker._do(os.nice, 0) == os.nice(0) + studio.NICE

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
def test_a_process_that_is_made_ready_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "warm_up", _takes_half_a_second)

    async def use(maker: Studio) -> None:
        maker.warm_up()
        maker.warm_up()
        ready, one = await asyncio.gather(next(iter(maker._work)), maker._do(os.getpid))
        assert ready == one, "and no second process was started"
        maker.warm_up()
        assert (len(maker._pools), len(maker._work)) == (1, 0), "there is one already"

    asyncio.run(elsewhere(tmp_path, use))


def _takes_half_a_second(engine: str, options: dict[str, str]) -> int:
    time.sleep(0.5)
    return os.getpid()


@pytest.mark.sockets
def test_an_engine_that_cannot_be_made_ready_is_told_of_by_who_needs_it(tmp_path: Path) -> None:
    async def use(maker: Studio) -> None:
        maker._engines = Engines("nobody")
        maker.warm_up()
        assert await maker._do(os.getppid) == os.getpid()

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
def test_what_waits_and_what_is_being_done_ends_with_the_studio(tmp_path: Path) -> None:
    async def use(maker: Studio) -> None:
        await maker._do(os.getpid)
        waiting = [asyncio.create_task(maker._do(time.sleep, 100)) for _ in range(2 * studio.PROCESSES)]
        await asyncio.sleep(0.1)
        await maker.close()
        assert all(isinstance(end, BaseException) for end in await asyncio.gather(*waiting, return_exceptions=True))

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
def test_a_process_that_dies_takes_only_its_own_work_with_it(tmp_path: Path) -> None:
    async def use(maker: Studio) -> None:
        _, death = await asyncio.gather(maker._do(time.sleep, 1.0), maker._do(os._exit, 1), return_exceptions=True)
        assert isinstance(death, SpeechError)
        assert "has died" in death.message
        assert await maker._do(os.getppid) == os.getpid()

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
def test_work_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(maker: Studio) -> None:
        hung = await maker._do(os.getpid)
        monkeypatch.setattr(studio, "LONGEST_S", 0.2)
        with pytest.raises(SpeechError, match=r"not done within 0\.2 s"):
            await maker._do(time.sleep, 100)
        monkeypatch.undo()
        assert await maker._do(os.getpid) != hung

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
def test_work_that_nobody_waits_for_is_finished_all_the_same(tmp_path: Path) -> None:
    async def use(maker: Studio) -> None:
        there = await maker._do(os.getpid)
        waiting = asyncio.create_task(maker._do(time.sleep, 0.2))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        [left] = maker._work
        await left
        assert await maker._do(os.getpid) == there

    asyncio.run(elsewhere(tmp_path, use))


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_the_processes_die_with_who_started_them(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, pathlib, signal
from offhook.server.clips import Clips
from offhook.server.studio import Studio
async def main():
    studio = Studio(Clips(pathlib.Path({str(tmp_path)!r})), None)
    print(await studio._do(os.getpid), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    asyncio.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    # Not pipes, which a process that lives on would keep open; two, as multiprocessing may complain of the killed one.
    with (tmp_path / "said").open("wb") as said, (tmp_path / "complained").open("wb") as complained:
        subprocess.run([sys.executable, tmp_path / "program.py"], stdout=said, stderr=complained, check=False)
    pid = int((tmp_path / "said").read_bytes())
    for _ in range(3000):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("it lives on")


def test_too_much_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "WAITING", 0)
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path, Shelf(a=sound("WAV", 8000))).clip(Source("file", uri="a")))
    assert caught.value.kind == "failed"


def test_only_so_many_files_are_in_memory_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        there = most = 0

        async def fetch(url: str, known: Stamp) -> Fetched:
            nonlocal there, most
            there += 1
            most = max(most, there)
            await asyncio.sleep(1)
            there -= 1
            return Fetched(sound("WAV", 8000, seconds=0.01), Stamp())

        maker = Studio(Clips(tmp_path), fetch)
        await asyncio.gather(*(maker.clip(Source("file", uri=str(number))) for number in range(studio.FILES + 5)))
        assert most == studio.FILES

    run(main())
