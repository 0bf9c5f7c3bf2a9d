"""A voice agent without any cloud: it answers calls and books appointments at a hair salon, by voice and keypad.

    ACS_CONNECTION_STRING="endpoint=https://…;accesskey=…" python examples/offline_agent.py --port 8080

`offhook.bot` carries the audio and notices who speaks, pocketsphinx hears, a `Dialogue` of plain rules knows what to
say, hibari-tts says it. The caller may interrupt at any time. docs/offline-agent.md shows a call and how to test it.
"""

import argparse
import asyncio
import json
import os
import re
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import time
from functools import cache
from multiprocessing import get_context
from typing import Any

import uvicorn
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient
from pocketsphinx import Decoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offhook.bot import AudioData, BargeIn, DtmfData, MediaStream, SpeechEnded, SpeechStarted, Utterance, serve
from offhook.testing.speech import speak

# ------------------------------------------------------------------------------------------------------ the dialogue

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CLOSED = ("sunday", "monday")
HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MINUTES = {"o'clock": 0, "fifteen": 15, "thirty": 30, "forty five": 45}
OPENS, CLOSES = time(9), time(18)
PATIENCE = 3  # times in a row that nothing is understood before the agent gives up

_HOUR = "|".join(HOURS)
_CLOCK = re.compile(rf"(half past |quarter past |quarter to )?\b({_HOUR})\b ?({'|'.join(MINUTES)})?")


@dataclass(frozen=True)
class Reply:
    """What to say, sentence by sentence; `over`: and then to hang up."""

    sentences: tuple[str, ...]
    over: bool = False


class Dialogue:
    """Books one appointment: from what the caller says, presses, or does not say, to what to reply. No audio, no clock.

    It asks for a day, a time and a phone number, in whatever order they are given, and repeats them for a yes.
    """

    def __init__(self) -> None:
        self.day = ""
        self.at: time | None = None
        self.phone = ""
        self._keys = ""  # of a phone number, up to the hash key
        self._lost = 0  # times in a row that nothing was understood
        self._last = Reply(())

    def greet(self) -> Reply:
        """The call begins."""
        return self._ask("Welcome to the hair salon.", "You can interrupt me at any time.")

    def hear(self, words: str) -> Reply:
        """The caller has said something; `words` is empty when it was not understood."""
        if re.search(r"\b(cancel|goodbye)\b", words):
            return Reply(("Then nothing is booked.", "Goodbye."), over=True)
        if re.search(r"\b(again|repeat|pardon|what was that)\b", words):
            return self._last
        said = set(words.split())
        known = self._known()
        day = next((day for day in DAYS if day in said), "")
        clock = _CLOCK.search(words)
        if day or clock:
            return self._take(day, clock)
        if known and said & {"yes", "yeah", "correct", "right"}:
            number = " ".join(self.phone)
            return Reply(
                ("Your appointment is booked.", f"We call {number} if anything changes.", "Goodbye."), over=True
            )
        if known and said & {"no", "wrong"}:
            self.day, self.at = "", None
            return self._ask("Then let us begin again.")
        return self._misunderstood("Sorry, I did not get that.")

    def press(self, key: str) -> Reply | None:
        """The caller has pressed a key; None while more are to come."""
        if key not in "#*":
            self._keys = (self._keys + key)[-16:]
            return None
        keys, self._keys = self._keys, ""
        if key == "*" or not 3 <= len(keys) <= 15:
            return self._misunderstood("Once more, please: three to fifteen digits, and then the hash key.")
        self.phone = keys
        return self._ask("Thank you.")

    def wait(self) -> Reply:
        """The caller says nothing."""
        return self._misunderstood("Are you still there?")

    def _take(self, day: str, clock: re.Match[str] | None) -> Reply:
        if day in CLOSED:
            return self._ask(f"We are closed on {day.title()}.")
        self.day = day or self.day
        if clock is None:
            return self._ask()
        at = _time(clock)
        if not OPENS <= at < CLOSES:
            return self._ask("We are open from nine in the morning to six.")
        self.at = at
        return self._ask()

    def _known(self) -> bool:
        return bool(self.day and self.at and self.phone)

    def _ask(self, *before: str) -> Reply:
        """Say something, then ask for what is missing."""
        self._lost = 0
        self._last = Reply((*before, self._question()))
        return self._last

    def _misunderstood(self, why: str) -> Reply:
        self._lost += 1
        if self._lost == PATIENCE:
            return Reply(("I am sorry, I cannot help you.", "Please call again. Goodbye."), over=True)
        return Reply((why, self._question()))

    def _question(self) -> str:
        if not self.day:
            return "On which day would you like to come?"
        if self.at is None:
            return f"At what time on {self.day.title()}?"
        if not self.phone:
            return "Please key in your phone number, and then press the hash key."
        return f"That is {self.day.title()} at {_spoken(self.at)}. Is that right?"


def _time(clock: re.Match[str]) -> time:
    """The time that the caller means: nobody asks for a hair cut at three in the morning."""
    before, hour, after = clock.groups()
    shift = {"half past ": 30, "quarter past ": 15, "quarter to ": -15}.get(before, MINUTES.get(after, 0))
    minutes = 60 * (HOURS.index(hour) + 1) + shift
    return time(*divmod(minutes + (12 * 60 if minutes < 6 * 60 else 0), 60))


def _spoken(at: time) -> str:
    minute = next(word for word, minute in MINUTES.items() if minute == at.minute)
    return f"{HOURS[at.hour % 12 - 1]} {minute} in the {'morning' if at.hour < 12 else 'afternoon'}"


# ------------------------------------------------------------------------------------------------------- the hearing

RATE = 16_000  # of the stream, as the recogniser wants it
PHONES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z"

# All that is understood. A small vocabulary is what makes a small recogniser good. Any other speech fits the last line,
# single sounds, better than it fits words: so the agent knows what it has not understood.
GRAMMAR = f"""#JSGF V1.0;
grammar salon;
<day> = {" | ".join(DAYS)};
<hour> = {" | ".join(HOURS)};
<clock> = <hour> [{" | ".join(MINUTES)}] | half past <hour> | [a] quarter (past | to) <hour>;
<time> = [at] <clock> [in the (morning | afternoon)];
<when> = [on] <day> [(morning | afternoon)] [<time>] | <time> [on <day>];
<lead> = i would like to come | i'd like to come | i would like an appointment | can i (come | have) | do you have time
       | make it | sorry [make it] | i meant | how about | what about;
<answer> = yes | yeah | correct | that's right | that is right | no | wrong;
<other> = [say that] again | repeat that | pardon | what was that | cancel | goodbye;
<sound> = {" | ".join(f"_{phone}" for phone in PHONES.split())};
public <said> = [<answer>] [<lead>] <when> [please] | <answer> [thank you] [please] | [please] <other> [please]
              | /0.001/ <sound>+;
"""


def write_down(pcm: bytes) -> str:
    """Return the words in 16-bit PCM at `RATE`; empty when they are none that are understood. Takes time: a fifth of
    what was said, and about as long as that when it is not understood."""
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return "" if found is None or "_" in found.hypstr else str(found.hypstr)


@cache
def _decoder() -> Any:
    decoder = Decoder(samprate=RATE, lm=None, maxhmmpf=300, loglevel="FATAL")
    for phone in PHONES.split():
        decoder.add_word(f"_{phone}", phone, True)
    decoder.add_jsgf_string("salon", GRAMMAR)
    decoder.activate_search("salon")
    return decoder


# --------------------------------------------------------------------------------------------------------- the agent

QUIET_FRAMES = 400  # 8 s without a word or a key: the caller is asked whether it is there
BEFORE_FRAMES = 15  # 300 ms that are heard again once it is clear that the caller speaks
AFTER_FRAMES = 20  # of the silence that ends speech, 600 ms, this much is not looked at: it takes time
LONGEST_FRAMES = 1000  # 20 s: of what the caller says without a pause, this much is written down

Run = Callable[..., Awaitable[Any]]
"""`await run(function, *arguments)` calls the function where it holds up nobody's audio."""


class Agent:
    """One call: turns audio into words for a `Dialogue`, and what it replies into audio."""

    def __init__(self, stream: MediaStream, run: Run) -> None:
        if stream.metadata.sample_rate != RATE:
            raise ValueError(f"the stream has {stream.metadata.sample_rate} Hz, and {RATE} were asked for")
        self._stream = stream
        self._run = run
        self._dialogue = Dialogue()
        self._barge_in = BargeIn()
        self._frames: deque[bytes] = deque(maxlen=BEFORE_FRAMES)  # of what the caller says
        self._saying: list[tuple[str, Utterance]] = []
        self._unheard: tuple[str, ...] = ()  # sentences that the caller interrupted, or never heard
        self._quiet = 0  # frames in which nobody does anything

    async def talk(self) -> None:
        """Hold the conversation; return when it is over."""
        over = self._say(self._dialogue.greet())
        async for message in self._stream:
            reply = None
            if isinstance(message, DtmfData):
                await self._be_quiet()
                reply = self._dialogue.press(message.tone)
            elif isinstance(message, AudioData):
                reply = await self._listen(message)
            over = self._say(reply) if reply else over
            if over:
                await self._stream.speaker.drained()
                return

    async def _listen(self, message: AudioData) -> Reply | None:
        self._frames.append(message.pcm)
        match self._barge_in.feed(message):
            case SpeechStarted():
                await self._be_quiet()
                self._frames = deque(self._frames, maxlen=LONGEST_FRAMES)
            case SpeechEnded():
                spoken = list(self._frames)[:-AFTER_FRAMES]
                self._frames = deque(maxlen=BEFORE_FRAMES)
                return self._understand(await self._run(write_down, b"".join(spoken)))
        busy = self._barge_in.speaking or self._stream.speaker.speaking
        self._quiet = 0 if busy else self._quiet + 1
        return self._dialogue.wait() if self._quiet == QUIET_FRAMES else None

    def _understand(self, words: str) -> Reply:
        print(f"caller: {words or '(not understood)'}", flush=True)
        if self._unheard and not words:  # a cough, a word to somebody else: go on where the agent was interrupted
            return Reply(self._unheard)
        return self._dialogue.hear(words)

    async def _be_quiet(self) -> None:
        """Stop speaking, and remember what the caller has not heard to its end."""
        self._quiet = 0
        if self._stream.speaker.speaking:
            await self._stream.speaker.interrupt()
        self._unheard = tuple([sentence for sentence, utterance in self._saying if not await utterance])

    def _say(self, reply: Reply) -> bool:
        print(f"agent: {' '.join(reply.sentences)}", flush=True)
        self._saying = [(sentence, self._stream.speaker.say(self._voice(sentence))) for sentence in reply.sentences]
        return reply.over

    async def _voice(self, sentence: str) -> AsyncIterator[Any]:
        """Make a sentence into sound when its turn has come: none is made that is not said."""
        yield await self._run(speak, sentence, RATE)


# ------------------------------------------------------------------------------------------------------ the telephone


def web_app(client: CallAutomationClient, own_url: str, audio_url: str) -> Starlette:
    """The HTTP half: answers incoming calls and prints the events of those that were answered."""
    streaming = MediaStreamingOptions(
        transport_url=audio_url,
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        enable_dtmf_tones=True,
        audio_format=AudioFormat.PCM16_K_MONO,
    )

    async def incoming_call(request: Request) -> Response:
        for event in await request.json():
            data = event["data"]
            if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
                return JSONResponse({"validationResponse": data["validationCode"]})
            await client.answer_call(data["incomingCallContext"], f"{own_url}/api/callbacks", media_streaming=streaming)
        return Response()

    async def callbacks(request: Request) -> Response:
        for event in await request.json():
            print(event["type"].removeprefix("Microsoft.Communication."), flush=True)
        return Response()

    return Starlette(
        routes=[
            Route("/api/incomingCall", incoming_call, methods=["POST"]),
            Route("/api/callbacks", callbacks, methods=["POST"]),
        ]
    )


def prepare() -> None:
    """In the process that hears and speaks: load both models. An interrupt is for its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_down(bytes(RATE // 10))
    speak("hello", RATE)


async def main() -> None:
    """Serve HTTP on --port and audio on a port of its own until it is ended by a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"])
    loop = asyncio.get_running_loop()

    async def talk(stream: MediaStream) -> None:
        await Agent(stream, lambda *doing: loop.run_in_executor(speech, *doing)).talk()
        if not stream.closed:  # the agent has said goodbye
            await client.get_call_connection(stream.call_connection_id).hang_up(is_for_everyone=True)

    # A process, not a thread: pocketsphinx holds the interpreter for as long as it thinks.
    with ProcessPoolExecutor(1, get_context("spawn"), prepare) as speech:
        await loop.run_in_executor(speech, speak, "Hello.", RATE)
        async with client, await serve(talk) as audio:
            # Asks Offhook to tell what the caller has heard; with others that is estimated.
            app = web_app(client, f"http://127.0.0.1:{port}", f"{audio.url}?offhook-heard=1")
            server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="warning"))
            for number in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # uvicorn ends on these, then gives them to whoever was first
                signal.signal(number, lambda *_: None)
            print(json.dumps({"ready": True, "http": port, "ws": audio.port}), flush=True)
            await server.serve()


if __name__ == "__main__":
    asyncio.run(main())
