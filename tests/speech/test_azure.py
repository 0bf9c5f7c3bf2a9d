"""Azure Speech, by a stand-in for the service on loopback. The service itself is not asked in any test."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from xml.etree import ElementTree

import numpy as np
import pytest

from offhook.speech import azure, engines
from offhook.speech.azure import Azure
from offhook.speech.values import RATE, Fault, Recognition, SpeechError, Voice

pytestmark = pytest.mark.sockets

KEY = "0123456789abcdef"
FOUND = {"RecognitionStatus": "Success", "NBest": [{"Confidence": 0.9, "Lexical": "yes", "Display": "Yes."}]}


class Service(HTTPServer):
    """Answers with `answer`; the last request is `path`, `sent` (its headers) and `body`.

    `headers` replace the length of the answer; until it is `complete` more and more comes.
    """

    answer: tuple[int, bytes] = (200, b"\x10\x00" * 240)
    headers: Mapping[str, str] = {}
    path = ""
    sent: dict[str, str]
    body = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.complete = threading.Event()
        self.complete.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:  # what follows a redirect
        self.server.path = self.path

    def do_POST(self) -> None:
        self.server.path, self.server.sent = self.path, dict(self.headers)
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        for name, value in (self.server.headers or {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        while not self.server.complete.wait(0.05):
            self.wfile.write(b"..")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.complete.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(service: Service) -> Azure:
    return azure.make({"key": KEY, "endpoint": f"{service.url}/"})


def test_a_text_is_said(service: Service, engine: Azure) -> None:
    speech = engine.say("Fish & <chips>", Voice("en-GB", "", "en-GB-RyanNeural", 1.5))
    assert (speech.rate, speech.samples.tolist()) == (24_000, [16] * 240)
    assert service.path == "/tts/cognitiveservices/v1"
    assert service.sent["Ocp-Apim-Subscription-Key".title()] == KEY
    assert service.sent["X-Microsoft-Outputformat"] == "raw-24khz-16bit-mono-pcm"
    speak = ElementTree.fromstring(service.body)
    voice = speak[0]
    assert voice.get("name") == "en-GB-RyanNeural"
    assert voice[0][0].get("rate") == "1.50"
    assert "".join(speak.itertext()) == "Fish & <chips>"


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        (Voice(), "en-US-AvaMultilingualNeural"),
        (Voice("de-DE", "male"), "en-US-AndrewMultilingualNeural"),
        (Voice(name="joe' onload='"), "en-US-AvaMultilingualNeural"),
        (Voice(name="de-DE-KatjaNeural"), "de-DE-KatjaNeural"),
    ],
)
def test_who_speaks(service: Service, engine: Azure, voice: Voice, name: str) -> None:
    engine.say("x", voice)
    assert ElementTree.fromstring(service.body)[0].get("name") == name


def test_speech_is_written_down(service: Service, engine: Azure) -> None:
    service.answer = (200, json.dumps(FOUND).encode())
    sound = np.arange(RATE, dtype=np.int16)
    assert engine.recognise(sound, "en-GB", ()) == Recognition("Yes.", 0.9)
    assert service.path == "/stt/speech/recognition/conversation/cognitiveservices/v1?language=en-GB&format=detailed"
    with wave.open(io.BytesIO(service.body)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert file.readframes(RATE) == sound.astype("<i2").tobytes()
    assert engine.recognise(sound, "", ("No", "Yes")) == Recognition("Yes", 0.9)
    assert engine.recognise(sound, "", ("Perhaps",)) == Recognition("", 0.0)


@pytest.mark.parametrize("status", ["NoMatch", "InitialSilenceTimeout"])
def test_nothing_understood(service: Service, engine: Azure, status: str) -> None:
    service.answer = (200, json.dumps({"RecognitionStatus": status}).encode())
    assert engine.recognise(np.zeros(10, np.int16), "en-US", ()) == Recognition("", 0.0)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"RecognitionStatus": "Success", "NBest": []}', b"\xff"])
def test_what_is_no_result(service: Service, engine: Azure, answer: bytes) -> None:
    service.answer = (200, answer)
    with pytest.raises(SpeechError, match="answered what is no result"):
        engine.recognise(np.zeros(10, np.int16), "en-US", ())


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (302, Fault.FAILED),
        (303, Fault.FAILED),
        (307, Fault.FAILED),
        (400, Fault.VOICE),
        (401, Fault.FAILED),
        (403, Fault.FAILED),
        (429, Fault.BUSY),
        (500, Fault.FAILED),
        (503, Fault.BUSY),
    ],
)
def test_a_refusal_is_told_without_the_key(service: Service, engine: Azure, status: int, fault: Fault) -> None:
    service.answer = (status, f"not with {KEY}".encode())
    with pytest.raises(SpeechError) as caught:
        engine.say("x", Voice())
    assert caught.value.fault is fault
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert service.path == "/tts/cognitiveservices/v1", "no redirect is followed"


def test_nothing_to_say_is_not_asked(service: Service, engine: Azure) -> None:
    with pytest.raises(SpeechError) as caught:
        engine.say(" \n", Voice())
    assert caught.value.fault is Fault.EMPTY
    assert service.path == ""


def test_an_error_is_no_silence(service: Service, engine: Azure) -> None:
    service.answer = (200, b'{"RecognitionStatus": "Error"}')
    with pytest.raises(SpeechError, match="answered 'Error'"):
        engine.recognise(np.zeros(10, np.int16), "en-US", ())


def test_an_answer_without_an_end(service: Service, engine: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    service.headers = {"Connection": "close"}
    service.complete.clear()
    monkeypatch.setattr(azure, "LONGEST_S", 2.0)
    with pytest.raises(SpeechError, match="not done within 2 s"):
        engine.say("x", Voice())


def test_an_answer_that_is_no_http(service: Service, engine: Azure) -> None:
    service.headers = {"Transfer-Encoding": "chunked"}
    with pytest.raises(SpeechError, match=r"cannot be asked: [A-Za-z]+$") as caught:
        engine.say("x", Voice())
    assert caught.value.fault is Fault.FAILED


def test_a_service_that_is_asked_too_much(service: Service, engine: Azure) -> None:
    service.answer = (429, b"")
    with pytest.raises(SpeechError) as caught:
        engine.say("x", Voice())
    assert caught.value.fault is Fault.BUSY


def test_a_voice_that_is_refused(service: Service, engine: Azure) -> None:
    service.answer = (400, b"")
    with pytest.raises(SpeechError, match="refuses the voice en-US-AvaMultilingualNeural") as caught:
        engine.say("x", Voice())
    assert caught.value.fault is Fault.VOICE


def test_a_locale_that_is_refused(service: Service, engine: Azure) -> None:
    service.answer = (400, b"")
    with pytest.raises(SpeechError, match="refuses the locale 'xx-XX'") as caught:
        engine.recognise(np.zeros(10, np.int16), "xx-XX", ())
    assert caught.value.fault is Fault.LOCALE


def test_bounds(service: Service, engine: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpeechError, match="60 s of speech at most"):
        engine.recognise(np.zeros(61 * RATE, np.int16), "en-US", ())
    monkeypatch.setattr(azure, "LARGEST", 100)
    with pytest.raises(SpeechError, match="more than 100 bytes"):
        engine.say("x", Voice())


def test_a_service_that_is_not_there(service: Service, engine: Azure) -> None:
    service.server_close()
    with pytest.raises(SpeechError, match="cannot be asked"):
        engine.say("x", Voice())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key": KEY}, "needs the option region"),
        ({"key": KEY, "region": "evil.example/"}, "needs the option region"),
        ({"key": KEY, "endpoint": "http://speech.example"}, "no https URL"),
        ({"key": KEY, "endpoint": "file:///etc/passwd"}, "no https URL"),
        ({"key": "a\nb", "region": "westeurope"}, "characters that no key has"),
        ({"key": KEY, "region": "westeurope", "voice": "<x>"}, "no name of a voice"),
        ({"region": "westeurope"}, "needs the option key"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, str], problem: str) -> None:
    with pytest.raises(SpeechError, match=problem) as caught:
        engines.synthesizer("azure", options)
    assert caught.value.fault is Fault.MISSING
    assert options.get("key", KEY) not in repr(caught.value)


def test_by_its_region_the_service_is_found() -> None:
    made = azure.make({"key": KEY, "region": "westeurope"})
    assert made._speak_url == "https://westeurope.tts.speech.microsoft.com/cognitiveservices/v1"
    assert made._listen_url.startswith("https://westeurope.stt.speech.microsoft.com/speech/recognition/")
