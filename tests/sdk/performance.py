"""Plays `whole_call.yaml` on one SDK: interprets its steps, and keeps what the SDK did and was sent.

A step is a mapping with one of these verbs; the words beside it are its options::

    - app: play                                 an operation, by the SDK
      of: second                                of the connection that was named so (else `call`)
      with: {sources: [{file: $tone}]}          arguments, see runner.py
      where: {streaming: {mediaStreaming: …}}   further ones, for SDKs with this feature; of an event: further `has`
      as: played                                the name of its result
      has: {operationContext: to play}          what is in its result
      refused: [404, "8522"]                    instead: the status and the code that it is refused with
    - event: PlayCompleted                      wait for this event on that connection; `has`: what is in its data
    - socket: {hears: voice}                    the app's newest audio socket brings the caller's voice …
    - socket: {sends: voice, times: 2}          … it is said on it, by the SDK's builder …
    - socket: {sends: stop}                     … nothing more of it shall be played
    - caller: calls                             a party: calls, hangs up
    - caller: {says: voice}                     … says: voice (noise), or words; {presses: "12"}: keys
    - caller: {is sent: "9#"}                   … is sent keys by the call
    - bob: {hears: sound}                       … hears: voice (its own, bit for bit), silence (200 ms of it), or sound,
                                                then or since somebody last did something
    - bob: {is: connected, because: …}          … is in this state; `because` is in the reason that it was told

`needs` on a part or step names features or operations, without which it is left out; an event that the SDK's
api-version does not have is left out, too. `$name.key` is a value: of a result, of a party (its raw id), of what is
given.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tests.sdk.runner import Refused, Runner
from tests.sdk.stage import RATE, Act, kind, until

from offhook.testing.caller import Party
from offhook.wire.events import is_sent_to

COMMON = ("callConnectionId", "serverCallId", "correlationId", "operationContext", "resultInformation")
SILENT_FRAMES = 10  # in a row: silence
SPEECH_S = 0.6  # how long the sound is that words are said with
IN_PASSING = "ParticipantsUpdated"  # comes whenever someone's state changes, and is not always waited for

Step = dict[str, Any]


class Performance:
    """One SDK's whole call: `await perform(scenario)`, then `driven` and `seen` say what it showed."""

    def __init__(self, act: Act, runner: Runner) -> None:
        self._act = act
        self._runner = runner
        self.api_version = ""  # of the SDK: known from its first event (recorded 1.3)
        self._names: dict[str, Any] = {
            "callbacks": f"{act.url}/callbacks?from=the-app",
            "audio": f"{act.url.replace('http:', 'ws:')}/audio",
            "forbidden": f"{act.url.replace('http:', 'ws:')}/forbidden",
            "tone": f"{act.url}/tone.wav",
            "missing": f"{act.url}/missing.wav",
        }
        self.driven: set[str] = set()  # operations that the SDK did with success
        self.seen: set[str] = set()  # events that were waited for and came
        self._since: dict[Party, int] = {}  # frames that each had heard when somebody last did something

    async def perform(self, scenario: Mapping[str, Any]) -> None:
        """Play all parts. Raises AssertionError, naming the step, for the first thing that is not as written."""
        self._names |= self._value(scenario["given"])
        number = self._act.number[-3:]
        for name, phone in scenario["phones"].items():
            await self._act.phone(name, phone["at"].replace("NNN", number), phone["habit"])
            self._names[name] = self._act.parties[name].raw_id
        for part in scenario["parts"]:
            if not self._can(part):
                continue
            for index, step in enumerate(part["steps"], 1):
                if not self._can(step):
                    continue
                try:
                    await self._step(step)
                except (AssertionError, TimeoutError, Refused, LookupError) as error:
                    raise AssertionError(f"{part['part']}, step {index}, {step}:\n{error!r}") from error
        await self._look_back()

    def _can(self, what: Step) -> bool:
        return {*what.get("needs", ())} <= self._runner.operations | self._runner.features

    async def _step(self, step: Step) -> None:
        match step:
            case {"app": operation}:
                self._listen_anew()
                await self._do(operation, step)
            case {"event": event}:
                await self._wait_for(event, step)
            case {"socket": asked}:
                await self._on_socket(asked)
            case _:
                (name,) = step.keys() - {"needs"}
                await self._party(name, step[name])

    # ------------------------------------------------------------------------------------------ the app

    async def _do(self, operation: str, step: Step) -> None:
        try:
            result = await self._runner.do(operation, self._asked(step, "with"), self._connection(step))
        except Refused as refused:
            if [refused.status, refused.code] != step.get("refused"):
                raise
            return
        assert "refused" not in step, f"not refused: {result}"
        self.driven |= {operation} & self._runner.operations
        if "as" in step:
            self._names[step["as"]] = result
        wrong = differences(self._value(step.get("has", {})), plain(result))
        assert not wrong, f"{wrong} in {result}"

    def _asked(self, step: Step, what: str) -> dict[str, Any]:
        """What a step has under `what`, and what more for the features of this SDK."""
        asked: dict[str, Any] = dict(step.get(what, {}))
        for feature, more in step.get("where", {}).items():
            if feature in self._runner.features:
                asked |= more
        values: dict[str, Any] = self._value(asked)
        return values

    def _connection(self, step: Step) -> str | None:
        call: dict[str, Any] = self._names.get(step.get("of", "call"), {})
        return call.get("callConnectionId")

    async def _wait_for(self, wanted: str, step: Step) -> None:
        connection = self._connection(step)
        if self.api_version and not is_sent_to(wanted, self.api_version):
            return
        difference = ["it did not come"]

        def take() -> dict[str, Any] | None:
            for event in self._act.untaken:
                if kind(event) == wanted and event["data"]["callConnectionId"] == connection:
                    difference[:] = differences(self._asked(step, "has"), plain(event["data"]))
                    if not difference:
                        self._act.untaken.remove(event)
                        return event
            return None

        try:
            event = await until(take)
        except TimeoutError:
            raise AssertionError(f"{wanted}: {difference[0]}; events: {self._act.kinds()}") from None
        self.api_version = self.api_version or event["data"]["version"]
        await self._read(event)
        self.seen.add(wanted)

    async def _read(self, event: dict[str, Any]) -> None:
        """The SDK's parser has to find in an event what is in it."""
        read = await self._runner.do("readEvent", {"body": json.dumps([event])})
        assert read["type"] == kind(event), read
        expected = {name: event["data"][name] for name in COMMON if name in event["data"]}
        wrong = differences({name: expected[name] for name in expected if read.get(name) is not None}, read)
        assert not wrong, f"as the SDK reads {event}: {wrong}"
        assert read["callConnectionId"] == expected["callConnectionId"]

    # ------------------------------------------------------------------------------------------ its socket

    async def _on_socket(self, asked: Mapping[str, Any]) -> None:
        socket = self._act.sockets[-1]
        match asked:
            case {"hears": "voice"}:
                assert socket.connection == self._connection({})
                sound = b""
                async with asyncio.timeout(30):
                    while self._act.voice not in sound:
                        await asyncio.sleep(0.1)
                        sound = b"".join(await self._audio(socket.messages))
            case {"sends": "stop"}:
                self._listen_anew()
                await socket.socket.send_str((await self._runner.do("writeStop"))["message"])
            case {"sends": "voice"}:
                self._listen_anew()
                data = base64.b64encode(self._act.voice).decode()
                message = (await self._runner.do("writeAudio", {"data": data}))["message"]
                for _ in range(asked.get("times", 1)):
                    await socket.socket.send_str(message)
            case _:
                raise AssertionError(f"the socket cannot {asked}")

    async def _audio(self, texts: list[str]) -> list[bytes]:
        """The PCM of a socket's frames that are not silent, as the SDK reads them; the metadata come first."""
        read = (await self._runner.do("readMessages", {"messages": texts}))["messages"]
        metadata, *frames = read or [{"kind": "AudioMetadata", "encoding": "PCM", "sampleRate": RATE}]
        assert (metadata["kind"], metadata["encoding"], metadata["sampleRate"]) == ("AudioMetadata", "PCM", RATE)
        assert all(frame["kind"] == "AudioData" and frame.get("participant") is None for frame in frames)
        return [base64.b64decode(frame["data"]) for frame in frames if not frame["silent"]]

    # ------------------------------------------------------------------------------------------ the people

    async def _party(self, name: str, asked: str | Mapping[str, Any]) -> None:
        if asked == "calls":
            self._names["incoming"] = await self._act.call()
            self._names[name] = self._act.parties[name].raw_id
            return
        party = self._act.parties[name]
        match asked:
            case "hangs up":
                await party.hang_up()
            case {"says": "voice"}:
                self._listen_anew()
                await party.say(self._act.voice)
            case {"says": words}:
                await party.say(_murmur(), text=words)
            case {"presses": keys}:
                await party.press(keys)
            case {"is sent": keys}:
                await until(lambda: keys in party.digits)
            case {"hears": what}:
                await until(lambda: self._hears(party, what))
            case {"is": state, **more}:
                await party.wait_for(state, timeout=30)
                assert party.state == state, party.states
                assert str(more.get("because", "")) in party.states[-1].reason, party.states
            case _:
                raise AssertionError(f"{name} cannot {asked}")

    def _listen_anew(self) -> None:
        self._since = {party: party.frames_heard for party in self._act.parties.values()}

    def _hears(self, party: Party, what: str) -> bool:
        frames = list(party.frames)
        match what:
            case "voice":
                return self._act.voice in party.heard
            case "sound":
                new = party.frames_heard - self._since.get(party, 0)  # A short sound may be over when we come to look.
                return any(map(any, frames[-max(new, SILENT_FRAMES) :]))
            case _:
                return len(frames) >= SILENT_FRAMES and not any(map(any, frames[-SILENT_FRAMES:]))

    # ------------------------------------------------------------------------------------------ what is checked

    def _value(self, given: Any) -> Any:
        """What is given, with its `$names` replaced, keys included."""
        if isinstance(given, dict):
            return {self._value(key): self._value(value) for key, value in given.items()}
        if isinstance(given, list):
            return [self._value(each) for each in given]
        if isinstance(given, str) and given.startswith("$"):
            value: Any = self._names
            for key in given[1:].split("."):
                value = value[key] if not isinstance(value, list) else value[int(key)]
            return value
        return given

    async def _look_back(self) -> None:
        """Nothing came that was not waited for, and the SDK can read all that came."""
        left = [event for event in self._act.untaken if kind(event) != IN_PASSING]
        assert not left, f"not waited for: {left}"
        for event in self._act.untaken:
            await self._read(event)
        for socket in self._act.sockets:
            await self._audio(socket.messages)
        left_out = self._runner.operations - self.driven
        assert not left_out, f"the SDK has them, and the scenario does not use them: {sorted(left_out)}"


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """What of `wanted` is not in `found`. Mappings may have more keys; a mapping of participants may not."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        extra = found.keys() - wanted.keys() if at.endswith("participants") else ()
        within = [each for key in wanted for each in differences(wanted[key], found.get(key), f"{at}.{key}")]
        return [*within, *(f"{at}.{key} is there" for key in sorted(extra))]
    return [] if wanted == found else [f"{at}: {found!r} instead of {wanted!r}"]


def plain(value: Any) -> Any:
    """A result or an event's data with raw ids in place of identifiers, and participants by raw id."""
    if isinstance(value, dict):
        return value["rawId"] if "rawId" in value else {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        items = [plain(each) for each in value]
        if items and all(isinstance(each, dict) and "identifier" in each for each in items):
            return {each.pop("identifier"): each for each in items}
        return items
    return value


def _murmur() -> bytes:
    """What words are said with: the sound of a voice, as loud as speech."""
    time = np.arange(int(SPEECH_S * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 12)) * 4000
    return np.asarray(wave).astype("<i2").tobytes()
