"""Calls under weather through the caller API, in memory: what is refused, what is kept, the same bytes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from offhook.media.weather import Weather, weather

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

OPTIONS = {
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "transportUrl": "wss://app.example/audio",
    "startMediaStreaming": True,
}
SPOKEN = b"\0\x10\0\xf0" * 160 * 50 * 3  # 3 s of 4 kHz


def given(weather: Weather) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(weather)
    return fields


async def shown(server: MemoryServer, call: str) -> list[dict[str, Any]]:
    timeline: list[dict[str, Any]] = (await server.rest("GET", f"/offhook/calls/{call}")).body["timeline"]
    return timeline


def faults(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the weather did, without times."""
    return [
        {key: value for key, value in entry.items() if key != "at"}
        for entry in timeline
        if entry["what"] in ("weather", "bad line") or entry.get("cause") == "weather"
    ]


@pytest.mark.parametrize(
    ("weather", "message"),
    [
        ({"drop": 100}, "weather: Object contains unknown field `drop`"),
        ({"late": 2}, "weather: late: 2.0 is not between 0 and 1"),
        ({"late": "often"}, "weather.late: Expected `float`, got `str`"),
        (7, "weather: Expected `object | null`, got `int`"),
    ],
)
@pytest.mark.parametrize("path", ["calls", "phones"])
def test_what_is_no_weather(in_memory: InMemory, path: str, weather: Any, message: str) -> None:
    body = {"to": "+15550199", "id": "+15550199", "weather": weather}
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", f"/offhook/{path}", body))
    assert answer.status == 400
    assert answer.body["error"]["message"].startswith(message)


def test_the_same_seed_gives_the_same_bytes_at_the_apps_socket(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> tuple[list[bytes], list[dict[str, Any]]]:
        caller = await server.call(weather=given(weather(7)))
        await server.answer(mediaStreamingOptions=OPTIONS)
        caller.say(SPOKEN)
        await server.settle(8)
        await server.rest("DELETE", f"/offhook/calls/{caller.call}")
        await server.settle(3)
        audio = [message for _, message in server.audio.messages if message.startswith(b'{"kind":"AudioData"')]
        return audio, faults(await shown(server, caller.call))

    audio, told = in_memory(scenario)
    assert len(audio) > 300
    assert {entry["what"] for entry in told} == {"weather", "stream warning", "bad line"}
    assert in_memory(scenario) == (audio, told)


def test_a_call_without_weather_has_none_beside_one_that_has(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        bad = Weather(drop_at=10, doubled=1.0, packet_loss=0.5)
        for over, count in ((given(bad), 2), (None, 1)):
            caller = await server.call(weather=over)
            app = await server.answer(mediaStreamingOptions=OPTIONS)
            caller.say(SPOKEN)
            await server.settle(2)
            assert server.kinds(app).count("CallConnected") == count
            told = faults(await shown(server, caller.call))
            assert bool(told) is (over is not None)
            server.audio.opened.clear()

    in_memory(scenario)


def test_the_weather_of_a_call_goes_on_when_control_is_killed(in_memory: InMemory) -> None:
    bad = Weather(seed=7, drop_at=150, late=0.5, doubled=0.5, failing=0.5, packet_loss=0.1)

    async def scenario(server: MemoryServer, killed: bool) -> list[dict[str, Any]]:
        caller = await server.call(weather=given(bad))
        app = await server.answer(mediaStreamingOptions=OPTIONS)
        await server.settle(2)
        if killed:
            server.kill()
        await server.settle(4)
        await server.rest("POST", f"/calling/callConnections/{app}:stopMediaStreaming", {})
        await server.settle(1)
        await server.rest("POST", f"/calling/callConnections/{app}:startMediaStreaming", {})
        await server.settle(4)
        told = faults(await shown(server, caller.call))
        await server.rest("DELETE", f"/offhook/calls/{caller.call}")
        await server.settle(3)
        return told

    undisturbed = in_memory(lambda server: scenario(server, False))
    assert sum(entry.get("cause") == "weather" for entry in undisturbed) == 2, "the second stream's socket is lost, too"
    assert in_memory(lambda server: scenario(server, True)) == undisturbed


def test_a_phones_weather_is_over_its_calls_and_survives_control(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        bad = Weather(doubled=1.0, packet_loss=0.2)
        placed = await server.rest(
            "POST", "/offhook/phones", {"id": "+15550177", "rate": 16_000, "weather": given(bad)}
        )
        phone = await server._attach(placed)
        server.kill()
        await server.settle(1)
        app = await server.create("4:+15550177")
        await server.settle()
        phone.tell("answer")
        await server.settle(2)
        await server.hang_up(app)
        await server.settle(1)
        assert set(server.kinds(app)) == {"CallConnected", "ParticipantsUpdated", "CallDisconnected"}
        assert all(server.kinds(app).count(kind) % 2 == 0 for kind in set(server.kinds(app)))
        (call,) = (await server.rest("GET", "/offhook/calls")).body["calls"]
        (line,) = [entry for entry in faults(await shown(server, call["callId"])) if entry["what"] == "bad line"]
        assert line["lost"] > 0

    in_memory(scenario)


def test_a_callers_weather_goes_before_a_phones(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        body = {"id": "+15550177", "rate": 16_000, "weather": given(Weather(packet_loss=0.2))}
        phone = await server._attach(await server.rest("POST", "/offhook/phones", body))
        caller = await server.call("+15550177", weather=given(Weather(seed=1)))
        phone.tell("answer")
        await server.settle(1)
        assert server.control.registry.calls[caller.call].weather == Weather(seed=1)

    in_memory(scenario)
