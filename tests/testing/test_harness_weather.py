"""Weather: each fault by itself, and the same seed the same way twice."""

from __future__ import annotations

from typing import Any

import pytest

from offhook.audio.pcm import tone
from offhook.bot import AudioData, MediaStream, apps
from offhook.testing.call import NotHeard
from offhook.testing.harness import TestCaller
from offhook.testing.inprocess import EPOCH, App
from offhook.testing.weather import Weather, weather

RATE = 16_000


def test_a_dropped_socket_is_dialled_again() -> None:
    opened: list[MediaStream] = []

    async def handler(stream: MediaStream) -> None:
        opened.append(stream)
        await apps.echo(stream)

    with TestCaller() as caller:
        call = caller.call(App(handler), weather=Weather(drop_at=100))
        call.wait(3)
        assert len(opened) == 2
        assert opened[0].closed
        call.say(tone(440, RATE, 0.5))
        call.hears_tone(440)
        started = [event for event in call.events if event.what == "StreamingStarted"]
        assert [event.at_s for event in started] == pytest.approx([0, 2], abs=0.1)


def test_an_app_that_stops_reading_gets_what_waited_afterwards() -> None:
    times: list[float] = []

    async def handler(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, AudioData):
                times.append(call.now_s)

    with TestCaller() as caller:
        call = caller.call(App(handler), weather=Weather(stall_at=50, stall_s=0.6))
        call.wait(1.3)
        assert len(times) in (49, 50), "nothing while it stalls"
        call.wait(1.7)
        assert len(times) == pytest.approx(150, abs=2), "and nothing is lost within a second"


def test_the_clock_of_the_audio_is_skewed() -> None:
    stamps: list[str] = []

    async def handler(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, AudioData):
                stamps.append(str(message.timestamp))

    for skew_s in (0.0, 3600.0):
        with TestCaller() as caller:
            caller.call(App(handler), weather=Weather(skew_s=skew_s)).wait(0.1)
    assert EPOCH == 1_800_000_000
    assert (stamps[0][:13], stamps[-1][:13]) == ("2027-01-15T08", "2027-01-15T09")


@pytest.mark.parametrize(
    ("fault", "counts"), [(Weather(), {1}), (Weather(doubled=1.0), {2}), (Weather(failing=1.0), {1})]
)
def test_events_are_doubled_or_tried_again(fault: Weather, counts: set[int]) -> None:
    received: list[str] = []
    with TestCaller() as caller:
        app = App(apps.echo, on_event=lambda event: received.append(event["type"].rpartition(".")[2]))
        call = caller.call(app, weather=fault)
        call.wait(0.2)
        assert bool(received) is not bool(fault.failing), "what failed comes half a second later"
        call.wait(5)
    assert {received.count(kind) for kind in set(received)} == counts
    assert received[0] == "CallConnected"


def hectic(seed: int) -> tuple[list[Any], str]:
    """What an app and a caller live through under `seed`, in times and words."""
    seen: list[Any] = []

    async def handler(stream: MediaStream) -> None:
        seen.append(("opened", stream.call_connection_id))
        await apps.echo(stream)

    with TestCaller() as caller:
        app = App(handler, on_event=lambda event: seen.append((event["type"], event["time"])))
        call = caller.call(app, weather=weather(seed))
        call.say(tone(440, RATE, 6.0))
        with pytest.raises(NotHeard) as failure:
            call.hears_tone(700, within=4)
        seen.append([(event.at_s, event.what) for event in call.events])
        seen.append(call.heard.tobytes())
    return seen, str(failure.value)


def test_the_same_seed_fails_the_same_way_twice() -> None:
    assert hectic(7) == hectic(7)
    assert hectic(7) != hectic(8)


def test_weather_is_for_apps_in_this_process() -> None:
    with TestCaller() as caller, pytest.raises(ValueError, match="weather"):
        caller.call("http://127.0.0.1:1", weather=Weather())
    with pytest.raises(ValueError, match="late"):
        Weather(late=2)
