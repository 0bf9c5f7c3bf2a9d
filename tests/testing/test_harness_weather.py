"""Weather: each fault by itself, and the same seed the same way twice."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from offhook.audio.pcm import tone
from offhook.bot import AudioData, MediaStream, apps
from offhook.testing.call import NotHeard
from offhook.testing.harness import TestCaller
from offhook.testing.inprocess import EPOCH, App
from offhook.testing.weather import Weather, parse, weather

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
        (warning,) = [event for event in call.events if event.what == "stream warning"]
        assert warning.details == {"cause": "weather", "detail": "the socket is lost after 100 frames"}


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
        noted = {event.details["event"] for event in call.events if event.what == "weather"}
        assert noted == (set(received) if fault != Weather() else set())


def test_late_events_are_overtaken_by_others() -> None:
    received: list[str] = []
    with TestCaller() as caller:
        app = App(apps.echo, on_event=lambda event: received.append(event["type"].rpartition(".")[2]))
        call = caller.call(app, weather=Weather(seed=17, late=0.5))
        call.wait(3)
        sent = [event.what for event in call.events if event.what in ("CallConnected", "ParticipantsUpdated")]
    assert sent[0] == "CallConnected"
    assert received[0] != "CallConnected"
    assert "CallConnected" in received


def test_a_phone_that_an_app_calls_has_weather_too() -> None:
    opened: list[MediaStream] = []

    async def handler(stream: MediaStream) -> None:
        opened.append(stream)
        await apps.echo(stream)

    with TestCaller() as caller:
        call = caller.phone(App(handler), weather=Weather(drop_at=50, packet_loss=0.1)).answer()
        call.wait(2)
        call.hang_up()
        assert len(opened) == 2
        (line,) = [event.details for event in call.events if event.what == "bad line"]
        assert line["packets"] == pytest.approx(100, abs=2)
        assert line["lost"] > 0


# ------------------------------------------------------------------------------------------------ the same way twice

FAULTS = {
    "everything": weather(7),
    "socket lost": Weather(drop_at=100),
    "slow reader": Weather(stall_at=30, stall_s=1.5),
    "clock skew": Weather(skew_s=2.5),
    "events late": Weather(seed=7, late=0.5),
    "events doubled": Weather(seed=7, doubled=0.5),
    "events failing": Weather(seed=7, failing=0.5),
    "packets lost": Weather(seed=7, packet_loss=0.05, packet_burst=3),
    "packets late": Weather(seed=7, packet_jitter_ms=120),
    "packets reordered": Weather(seed=7, packet_reordered=0.2),
    "packets doubled": Weather(seed=7, packet_doubled=0.2),
}


def lived(fault: Weather) -> tuple[list[Any], str]:
    """What an app and a caller live through, in bytes, times and words."""
    seen: list[Any] = []

    async def handler(stream: MediaStream) -> None:
        seen.append(("opened", stream.call_connection_id))
        async for message in stream:
            if isinstance(message, AudioData):
                seen.append((str(message.timestamp), message.pcm, message.silent))
                await stream.send_audio(message.pcm)

    with TestCaller() as caller:
        app = App(handler, on_event=lambda event: seen.append((call_time(), event["type"], event["time"])))
        call = None

        def call_time() -> float | None:
            return call and call.now_s

        call = caller.call(app, weather=fault)
        call.say(tone(440, RATE, 6.0))
        with pytest.raises(NotHeard) as failure:
            call.hears_tone(700, within=1)
        call.hang_up()
        seen.append([(event.at_s, event.what, event.details) for event in call.events])
        seen.append(call.heard.tobytes())
    return seen, str(failure.value)


@pytest.fixture(scope="module")
def fine() -> tuple[list[Any], str]:
    return lived(Weather(seed=7))


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_seed_fails_the_same_way_twice(name: str, fine: tuple[list[Any], str]) -> None:
    once = lived(FAULTS[name])
    assert once == lived(FAULTS[name]), "byte for byte"
    assert once != fine


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].seed])
def test_another_seed_fails_in_another_way(name: str) -> None:
    mixed = weather(8) if name == "everything" else structs.replace(FAULTS[name], seed=9)
    assert lived(FAULTS[name]) != lived(mixed)


# ------------------------------------------------------------------------------------------------ as a text


def test_a_seed_alone_is_a_mix_and_with_faults_only_those() -> None:
    assert parse("7") == weather(7)
    assert parse("7,drop_at=100, packet_loss = 0.5") == Weather(seed=7, drop_at=100, packet_loss=0.5)


@pytest.mark.parametrize("text", ["", "seven", "7,", "7,drop=1", "7,late", "7,late=2", "7,seed=", "7,drop_at=1.5"])
def test_a_text_that_is_no_weather(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not SEED\[,KEY=VALUE"):
        parse(text)


def test_a_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="late"):
        Weather(late=2)
