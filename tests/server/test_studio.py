"""Prompts made and speech written down: files by URL, texts, what goes wrong, what is kept and for how long."""

from __future__ import annotations

import asyncio
import io
import os
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import web

from offhook.audio import pcm
from offhook.call.prompts import Source
from offhook.media.egress import AddressPolicy
from offhook.server import fetching, studio, tls
from offhook.server.clips import Clips
from offhook.server.fetching import Fetched, Fetcher, Stamp
from offhook.server.sounds import PromptError, PromptFault
from offhook.server.studio import Studio, StudioError
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


@pytest.mark.parametrize("data", [b"", b"no sound", sound("WAV", 8000)[:20], bytes(10_000)])
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


def test_the_oldest_clips_go_but_none_that_is_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(**{name: sound("WAV", 8000) for name in "abcd"})
        maker = made(tmp_path, shelf, largest=40_000)  # two of them
        paths = {}
        for age, name in enumerate("abc"):
            paths[name] = await maker.clip(Source("file", uri=name))
            os.utime(paths[name], (age, age))
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
    monkeypatch.setattr(fetching, "TOTAL_S", 0.5)
    elsewhere = {"/loop": "/loop", "/inside": "http://169.254.169.254/secrets", "/scheme": "file:///etc/passwd"}

    async def handle(request: web.Request) -> web.StreamResponse:
        if place := elsewhere.get(request.path):
            return web.Response(status=302, headers={"Location": place})
        if request.path == "/large":
            return web.Response(body=bytes(200_000))
        if request.path == "/slow":
            await asyncio.sleep(5)
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
        from offhook.audio.resample import convert

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
    ],
)
def test_what_cannot_be_said(tmp_path: Path, source: Source, kind: str) -> None:
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path).clip(source))
    assert caught.value.kind == kind


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


def test_work_is_done_elsewhere_and_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        maker = made(tmp_path)
        try:
            there = await maker._work(os.getpid)
            assert there != os.getpid()
            with pytest.raises(SpeechError, match="has died"):
                await maker._work(os._exit, 1)
            assert await maker._work(os.getpid) != there
        finally:
            await maker.close()

    asyncio.run(main())


def test_too_much_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "WAITING", 0)
    with pytest.raises(StudioError) as caught:
        run(made(tmp_path, Shelf(a=sound("WAV", 8000))).clip(Source("file", uri="a")))
    assert caught.value.kind == "failed"
