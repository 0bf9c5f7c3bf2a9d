"""The life of a stream: opening, losing and ending its socket, and the odd things an app may send. On virtual time."""

from __future__ import annotations

import asyncio

import pytest

from offhook.media.dial import DialError
from offhook.media.link import CloseStream
from offhook.media.stream import QUEUE, RateWatch
from offhook.media.tidings import StreamDown, StreamEnded, StreamOddity, StreamUp
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia
from offhook.wire import streaming

REFUSED = DialError("unreachable", "connection refused: nothing listens there")


def metadata(app: MemoryApp) -> list[int]:
    """Where in `app.messages` AudioMetadata stands."""
    parsed = [streaming.parse_from_server(message) for _, message in app.messages]
    return [at for at, message in enumerate(parsed) if isinstance(message, streaming.AudioMetadata)]


def opened(app: MemoryApp) -> list[float]:
    return [round(at, 3) for at, _, _ in app.opened]


# ------------------------------------------------------------------------------------------------ opening


@pytest.mark.parametrize(("rate", "length"), [(16_000, 640), (24_000, 960)])
def test_metadata_is_the_very_first_message_and_the_headers_say_which_call(rate: int, length: int) -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller", rate)
        app = await media.app("app", rate)
        await asyncio.sleep(1)
        assert metadata(app) == [0]
        assert streaming.parse_from_server(app.messages[0][1]) == streaming.AudioMetadata(
            "subscription of app", "PCM", rate, 1, length
        )
        [(_, url, headers)] = app.opened
        assert url == "app"
        assert headers == {
            "Authorization": "Bearer token of app",
            "x-ms-call-connection-id": "connection of app",
            "x-ms-call-correlation-id": "correlation of call",
        }
        assert media.told(StreamUp) == [StreamUp("app")]
        assert len(app.audio) in (50, 51)

    run(main())


def test_a_101_that_comes_after_3_s_starts_the_stream() -> None:
    async def main() -> None:
        media = MemoryMedia()
        slow = MemoryApp()
        slow.open_after_s = 3.0
        await media.app("app", app=slow)
        await asyncio.sleep(2.9)
        assert media.tidings == []
        await asyncio.sleep(0.2)
        assert media.tidings == [StreamUp("app")]
        await asyncio.sleep(1)
        assert metadata(slow) == [0]
        assert len(slow.audio) > 40

    run(main())


def test_opening_is_tried_at_0_1_and_3_s_and_then_told_once() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = MemoryApp()
        app.refusals = [REFUSED] * 9
        await media.app("app", app=app)
        await asyncio.sleep(60)
        assert opened(app) == [0, 1, 3]
        assert media.told(StreamDown) == [StreamDown("app", "unreachable", REFUSED.detail)]
        assert len(media.told(StreamEnded)) == 1
        assert media.told(StreamUp) == []
        assert not media.worker.plane.busy()

    run(main())


def test_a_later_try_that_works_starts_the_stream() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = MemoryApp()
        app.refusals = [REFUSED, REFUSED]
        await media.app("app", app=app)
        await asyncio.sleep(4)
        assert opened(app) == [0, 1, 3]
        assert media.tidings == [StreamUp("app")]

    run(main())


@pytest.mark.parametrize("failure", ["unauthenticated", "forbidden", "unreachable"])
def test_an_error_that_no_other_try_would_help_is_not_tried_again(failure: str) -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = MemoryApp()
        app.refusals = [DialError(failure, "no", final=True)]
        await media.app("app", app=app)
        await asyncio.sleep(60)
        assert opened(app) == [0]
        assert media.told(StreamDown) == [StreamDown("app", failure, "no")]

    run(main())


def test_a_stream_closed_while_it_opens_never_comes_up() -> None:
    async def main() -> None:
        media = MemoryMedia()
        slow = MemoryApp()
        slow.open_after_s = 3.0
        await media.app("app", app=slow)
        await asyncio.sleep(1)
        await media.order(CloseStream("app"))
        await asyncio.sleep(10)
        assert [type(tiding) for tiding in media.tidings] == [StreamEnded]
        assert slow.opened == []

    run(main())


# ------------------------------------------------------------------------------------------------ losing the socket


@pytest.mark.parametrize("after", [0.5, 30.0])
def test_a_lost_socket_is_reopened_at_once_with_metadata_first(after: float) -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller")
        app = await media.app("app")
        await asyncio.sleep(after)
        app.drop()
        await asyncio.sleep(0.001)
        assert opened(app) == [0, after]
        before = len(app.messages)
        await asyncio.sleep(1)
        assert metadata(app) == [0, before - 1]
        assert media.told(StreamUp) == [StreamUp("app"), StreamUp("app", again=True)]
        assert media.told(StreamDown) == []
        assert len(app.audio) == pytest.approx(50 * (after + 1), abs=2)

    run(main())


def test_reopening_is_tried_at_once_and_five_more_times_within_15_s() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller")
        app = await media.app("app")
        await asyncio.sleep(10)
        app.refusals = [REFUSED] * 9
        app.drop()
        await asyncio.sleep(60)
        tries = [at - 10 for at in opened(app)[1:]]
        assert tries == [0, 0.5, 1.5, 3.5, 7, 15]
        assert media.told(StreamDown) == [StreamDown("app", "interrupted", REFUSED.detail)]
        assert len(media.told(StreamEnded)) == 1

    run(main())


def test_while_it_is_away_a_second_of_the_caller_is_kept_and_the_rest_counted() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        caller.say(b"".join(number.to_bytes(2, "little") * 320 for number in range(1, 1000)))
        app = await media.app("app")
        await asyncio.sleep(10)
        app.refusals = [REFUSED] * 3
        app.drop()
        before = len(app.messages)
        await asyncio.sleep(3.49)
        assert len(app.messages) == before
        await asyncio.sleep(0.02)
        assert metadata(app) == [0, before]
        numbers = [message.pcm[0] + 256 * message.pcm[1] for message in app.audio]
        missed = numbers[before - 1] - numbers[before - 2] - 1
        assert missed == pytest.approx(175 - QUEUE, abs=1)
        assert numbers[before - 1 :] == list(
            range(numbers[before - 1], numbers[before - 1] + len(numbers) - before + 1)
        )
        assert len(numbers) - before + 1 in (QUEUE, QUEUE + 1)
        assert (await media.stats("app"))["dropped"] == missed

    run(main())


def test_what_waited_to_be_played_is_discarded_when_the_socket_is_lost() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        app = await media.app("app")
        app.say(b"\1\0" * 160_000)
        await asyncio.sleep(1)
        app.drop()
        lost = len(caller.frames)
        await asyncio.sleep(2)
        assert any(caller.frames[lost - 2])
        assert not any(b"".join(caller.frames[lost + 1 :]))
        app.say(b"\2\0" * 16_000)
        await asyncio.sleep(1.1)
        assert b"".join(caller.frames).count(b"\2\0") == 16_000

    run(main())


@pytest.mark.parametrize("after", [0.0, 0.5, 30.0])
def test_an_app_that_closes_cleanly_is_not_dialled_again(after: float) -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app")
        await asyncio.sleep(after)
        app.drop(clean=True)
        await asyncio.sleep(60)
        assert opened(app) == [0]
        assert [type(tiding) for tiding in media.tidings] == [StreamUp, StreamDown, StreamEnded]
        assert media.told(StreamDown)[0].failure == "closed"
        assert not media.worker.plane.busy()

    run(main())


class DropsAtOnce(MemoryApp):
    """Accepts every socket and loses it: before the stream can look (`at_once`), or on its first message."""

    def __init__(self, at_once: bool, times: int = 1000) -> None:
        super().__init__(None if at_once else lambda message: self.drop())
        self.at_once, self.times = at_once, times

    async def __call__(self, *arguments: object) -> object:  # type: ignore[override]
        socket = await super().__call__(*arguments)  # type: ignore[arg-type]
        if self.at_once and len(self.opened) <= self.times:
            self.drop()
        return socket


@pytest.mark.parametrize("at_once", [True, False])
def test_an_app_that_accepts_and_drops_is_not_dialled_for_ever(at_once: bool) -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = DropsAtOnce(at_once)
        await media.app("app", app=app)
        await asyncio.sleep(120)
        assert opened(app) == [0, 0, 0.5, 1.5, 3.5, 7, 15]
        assert media.told(StreamUp)[0] == StreamUp("app")
        assert {up.again for up in media.told(StreamUp)[1:]} == {True}
        [down] = media.told(StreamDown)
        assert down.failure == "interrupted"
        assert len(media.told(StreamEnded)) == 1
        assert not media.worker.plane.busy()

    run(main())


def test_a_socket_that_was_lost_before_we_could_look_still_starts_the_stream() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        app = DropsAtOnce(at_once=True, times=1)
        await media.app("app", app=app)
        await asyncio.sleep(1)
        assert media.told(StreamUp) == [StreamUp("app"), StreamUp("app", again=True)]
        assert metadata(app) == [0]
        assert len(app.audio) >= 49
        app.say(b"\1\0" * 320)
        await asyncio.sleep(0.1)
        assert b"\1\0" * 320 in caller.heard

    run(main())


def test_a_socket_that_held_for_a_while_earns_new_tries() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app")
        for _ in range(9):
            await asyncio.sleep(6)
            app.drop()
        await asyncio.sleep(1)
        assert len(app.opened) == 10
        assert media.told(StreamDown) == []

    run(main())


# ------------------------------------------------------------------------------------------------ closing


def test_closing_sends_what_waits_and_closes_with_1000() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller")
        app = await media.app("app")
        await asyncio.sleep(1)
        app.stall()
        await asyncio.sleep(0.5)
        read = len(app.messages)
        stats = await media.stats("app")
        assert len(app.messages) - read == pytest.approx(25, abs=1)
        assert [code for _, code in app.closed] == [1000]
        assert stats["dropped"] == 0
        assert stats["sent"] == len(app.audio)
        app.say(b"\1\0")  # what an app still sends is nobody's any more
        await asyncio.sleep(1)
        assert len(media.told(StreamEnded)) == 1
        assert media.told(StreamDown) == []

    run(main())


def test_a_closed_stream_is_closed_once() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.app("app")
        for _ in range(3):
            await media.order(CloseStream("app"))
        await media.order(CloseStream("never opened"))
        await media.worker.close()
        await asyncio.sleep(0)
        assert len(media.told(StreamEnded)) == 1

    run(main())


def test_the_worker_closes_every_stream() -> None:
    async def main() -> None:
        media = MemoryMedia()
        apps = [await media.app(f"app {number}", call=f"call {number}") for number in range(5)]
        await asyncio.sleep(0.1)
        await media.worker.close()
        await asyncio.sleep(1)
        assert [[code for _, code in app.closed] for app in apps] == [[1000]] * 5
        counts = [len(app.messages) for app in apps]
        await asyncio.sleep(1)
        assert [len(app.messages) for app in apps] == counts

    run(main())


# ------------------------------------------------------------------------------------------------ oddities


ODD = {
    "not json": b"{",
    "not an object": b"[1]",
    "no kind": b"{}",
    "unknown kind": b'{"kind":"Nonsense"}',
    "no audio data": b'{"kind":"AudioData"}',
    "not base64": b'{"kind":"AudioData","audioData":{"data":"*"}}',
    "no mark id": b'{"kind":"MarkData"}',
    "mark": b'{"kind":"MarkData","markData":{"id":"m1"}}',
}


def test_every_odd_message_is_counted_by_cause_told_once_and_harms_nothing() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        app = await media.app("app")
        for _ in range(3):
            for message in ODD.values():
                app.send(message)
        app.say(b"\1\0" * 320)
        await asyncio.sleep(0.2)
        assert sorted(odd.cause for odd in media.told(StreamOddity)) == sorted(ODD)
        assert b"\1\0" * 320 in caller.heard
        stats = await media.stats("app")
        assert {name: count for name, count in stats.items() if name.startswith("odd: ")} == {
            f"odd: {cause}": 3 for cause in ODD
        }
        assert stats["received"] == 3 * len(ODD) + 1

    run(main())


def test_without_enable_bidirectional_audio_is_read_and_discarded() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        app = await media.app("app", bidirectional=False)
        for _ in range(10):
            app.say(b"\1\0" * 320)
        await asyncio.sleep(0.5)
        assert not any(caller.heard)
        assert [odd.cause for odd in media.told(StreamOddity)] == ["not bidirectional"]
        assert len(app.audio) > 20
        assert (await media.stats("app"))["ignored_bytes"] == 6400

    run(main())


def test_a_message_that_is_too_large_is_counted() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app")
        for _ in range(2):
            app.too_large((1 << 20) + 1)
        await asyncio.sleep(0)
        [odd] = media.told(StreamOddity)
        assert (odd.cause, "1048577 bytes" in odd.detail) == ("too large", True)
        assert (await media.stats("app"))["odd: too large"] == 2

    run(main())


def test_more_than_ten_minutes_are_refused_and_counted() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", 16_000)
        for _ in range(21):
            app.say(bytes(16_000 * 2 * 30))
        await asyncio.sleep(0)
        assert [odd.cause for odd in media.told(StreamOddity)] == ["playout full"]
        assert (await media.stats("app"))["refused_bytes"] == 16_000 * 2 * 30

    run(main())


@pytest.mark.parametrize("sizes", [[1], [3], [641, 639], [961], [99_999, 1]])
def test_odd_byte_counts_do_not_shift_the_samples(sizes: list[int]) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        app = await media.app("app")
        said = b"\1\2" * 16_000
        at = number = 0
        while at < len(said):
            size = sizes[number % len(sizes)]
            app.say(said[at : at + size])
            at, number = at + size, number + 1
        await asyncio.sleep(1.2)
        assert caller.heard.count(said) == 1

    run(main())


# ------------------------------------------------------------------------------------------------ a wrong sample rate


async def frames(app: MemoryApp, size: int, every: float, seconds: float) -> None:
    for _ in range(round(seconds / every)):
        app.say(bytes(size))
        await asyncio.sleep(every)


@pytest.mark.parametrize(
    ("rate", "size", "suspect"),
    [(24_000, 640, 16_000), (16_000, 960, 24_000), (24_000, 320, 8000), (16_000, 320, 8000)],
)
def test_frames_of_another_rate_are_noticed(rate: int, size: int, suspect: int) -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", rate)
        await frames(app, size, 0.020, 5)
        [odd] = media.told(StreamOddity)
        assert odd.cause == "wrong sample rate"
        assert f"{suspect} Hz" in odd.detail
        assert f"{rate} Hz" in odd.detail

    run(main())


@pytest.mark.parametrize(
    ("rate", "size", "every"),
    [
        (24_000, 960, 0.020),
        (16_000, 640, 0.020),
        (24_000, 640, 640 / 48_000),  # the stream's rate in pieces of another size
        (16_000, 320, 0.010),
        (24_000, 1920, 0.040),
        (16_000, 960, 0.030),
        (24_000, 4800, 0.100),
        (16_000, 1920, 0.060),
    ],
)
def test_a_legal_app_is_not_suspected(rate: int, size: int, every: float) -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", rate)
        await frames(app, size, every, 10)
        assert media.told(StreamOddity) == []

    run(main())


def test_bursts_in_pieces_of_another_rates_frame_are_not_suspected() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", 24_000)
        for _ in range(5):  # 2 s of speech at once, every 3 s: 50 pieces a second on average
            for _ in range(150):
                app.say(bytes(640))
            await asyncio.sleep(3)
        assert media.told(StreamOddity) == []

    run(main())


def test_the_watch_speaks_again_but_not_at_every_message() -> None:
    watch = RateWatch(24_000)
    spoke = [number for number in range(1000) if watch.saw(640, number * 0.020) is not None]
    assert 5 <= len(spoke) <= 7
