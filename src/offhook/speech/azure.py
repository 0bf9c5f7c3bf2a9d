"""Azure Speech, over its REST interfaces for text to speech and for short audio. Texts and voices go to Microsoft.

Of what is sent and answered (documented: "Text to speech REST API", "Speech to text REST API for short audio"). Bounds:
`LONGEST_S` for a request, `LARGEST` bytes of an answer, `LONGEST_SPEECH_S` of speech in a request.
"""

from __future__ import annotations

import io
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape, quoteattr

from offhook.audio import pcm
from offhook.audio.pcm import Samples
from offhook.speech.phrases import chosen
from offhook.speech.values import RATE, Fault, Recognition, Speech, SpeechError, Voice

SPOKEN_RATE = 24_000  # Hz
LONGEST_S = 30.0
LONGEST_SPEECH_S = 60
LARGEST = 2 * SPOKEN_RATE * 600  # the service itself speaks for ten minutes at most
LOCALE = "en-US"  # where none is asked for

# These two speak every language that the service has.
_WOMAN, _MAN = "en-US-AvaMultilingualNeural", "en-US-AndrewMultilingualNeural"
_SPEAK = "/cognitiveservices/v1"
_LISTEN = "/speech/recognition/conversation/cognitiveservices/v1"
_NAME = re.compile(r"[a-z]{2,3}-[A-Za-z0-9-]{2,60}(?::[A-Za-z0-9]{1,40})?")  # of a voice


class Azure:
    """The `Synthesizer` and the `Recognizer`."""

    def __init__(self, key: str, speak_url: str, listen_url: str, voice: str = "") -> None:
        self._key = key
        self._speak_url = speak_url
        self._listen_url = listen_url
        self._voice = voice

    def say(self, text: str, voice: Voice) -> Speech:
        """See `Synthesizer`. A name that is none of Azure's is ignored."""
        if not text.strip():
            raise SpeechError(Fault.EMPTY, "there is nothing to say")
        headers = {
            "Content-Type": "application/ssml+xml",
            "X-Microsoft-OutputFormat": "raw-24khz-16bit-mono-pcm",
        }
        what = (Fault.VOICE, f"the voice {self._named(voice)}, the locale {voice.language or LOCALE!r} or the text")
        answer = self._ask(self._speak_url, headers, self._ssml(text, voice).encode(), what)
        return Speech(SPOKEN_RATE, pcm.as_samples(answer[: len(answer) & ~1]))

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """See `Recognizer`. It writes capitals and punctuation."""
        if len(samples) > LONGEST_SPEECH_S * RATE:
            raise SpeechError(Fault.FAILED, f"Azure Speech takes {LONGEST_SPEECH_S} s of speech at most")
        headers = {
            "Content-Type": f"audio/wav; codecs=audio/pcm; samplerate={RATE}",
            "Accept": "application/json",
        }
        url = f"{self._listen_url}?language={quote(locale or LOCALE, safe='')}&format=detailed"
        answer = self._ask(url, headers, _wav(samples), (Fault.LOCALE, f"the locale {locale or LOCALE!r}"))
        text, confidence = _best(answer)
        if phrases:
            text = chosen(text, phrases)
        return Recognition(text, confidence) if text else Recognition("", 0.0)

    def _named(self, voice: Voice) -> str:
        if _NAME.fullmatch(voice.name):
            return voice.name
        return self._voice or (_MAN if voice.kind.lower() == "male" else _WOMAN)

    def _ssml(self, text: str, voice: Voice) -> str:
        locale = quoteattr(voice.language or LOCALE)
        return (
            f'<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang={locale}>'
            f'<voice name="{self._named(voice)}"><lang xml:lang={locale}>'
            f'<prosody rate="{voice.speed:.2f}">{escape(text)}</prosody></lang></voice></speak>'
        )

    def _ask(self, url: str, headers: dict[str, str], body: bytes, what: tuple[Fault, str]) -> bytes:
        """POST; `what` the service refuses when it answers 400."""
        request = urllib.request.Request(url, body, {"User-Agent": "offhook", **headers})
        request.add_unredirected_header("Ocp-Apim-Subscription-Key", self._key)
        try:
            with _OPENER.open(request, timeout=LONGEST_S) as response:
                return _read(response, time.monotonic() + LONGEST_S)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(error.code, what) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise SpeechError(Fault.FAILED, f"Azure Speech cannot be asked: {reason}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The service has none, and what is sent is not for anybody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _read(response: Any, until: float) -> bytes:
    read = bytearray()
    while piece := response.read1(1 << 16):
        read += piece
        if len(read) > LARGEST:
            raise SpeechError(Fault.FAILED, f"Azure Speech answered more than {LARGEST} bytes")
        if time.monotonic() > until:
            raise SpeechError(Fault.FAILED, f"Azure Speech was not done within {LONGEST_S:g} s")
    return bytes(read)


def _refused(status: int, what: tuple[Fault, str]) -> SpeechError:
    fault, asked = what
    if status == 400:
        return SpeechError(fault, f"Azure Speech refuses {asked}")
    if status in (401, 403):
        return SpeechError(Fault.FAILED, f"Azure Speech refuses the key for this region or endpoint (HTTP {status})")
    if status in (429, 503):
        return SpeechError(Fault.BUSY, f"Azure Speech is asked too much (HTTP {status})")
    return SpeechError(Fault.FAILED, f"Azure Speech answered HTTP {status}")


def _best(answer: bytes) -> tuple[str, float]:
    """Return the text and the confidence of what is likeliest; "" when nothing was understood."""
    try:
        result = json.loads(answer)
        if result["RecognitionStatus"] in ("NoMatch", "InitialSilenceTimeout", "BabbleTimeout", "EndOfDictation"):
            return "", 0.0
        if result["RecognitionStatus"] != "Success":
            raise SpeechError(Fault.FAILED, f"Azure Speech answered {str(result['RecognitionStatus'])[:40]!r}")
        best = result["NBest"][0]
        return str(best["Display"]), min(1.0, max(0.0, float(best["Confidence"])))
    except (ValueError, KeyError, IndexError, TypeError):
        raise SpeechError(Fault.FAILED, "Azure Speech answered what is no result") from None


def _wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def make(options: Mapping[str, str]) -> Azure:
    """Nothing is asked of the service yet.

    `key`; `region`, such as "westeurope", or `endpoint`, the resource's own, such as
    "https://NAME.cognitiveservices.azure.com"; `voice`: the name of who speaks when none is asked for.
    """
    key, region, endpoint, voice = (options.get(name, "") for name in ("key", "region", "endpoint", "voice"))
    if not re.fullmatch(r"[!-~]{1,500}", key):  # a header would not take it, and an error would tell it
        raise SpeechError(Fault.MISSING, "azure: the key has characters that no key has")
    if voice and not _NAME.fullmatch(voice):
        raise SpeechError(Fault.MISSING, f"azure: {voice[:80]!r} is no name of a voice")
    if endpoint:
        if not _safe(endpoint):
            raise SpeechError(Fault.MISSING, "azure: the endpoint is no https URL")
        base = endpoint.rstrip("/")
        return Azure(key, f"{base}/tts{_SPEAK}", f"{base}/stt{_LISTEN}", voice)
    if not re.fullmatch(r"[a-z0-9]{1,40}", region):
        raise SpeechError(Fault.MISSING, "azure needs the option region, such as westeurope, or endpoint")
    host = "speech.microsoft.com"
    return Azure(key, f"https://{region}.tts.{host}{_SPEAK}", f"https://{region}.stt.{host}{_LISTEN}", voice)


def _safe(endpoint: str) -> bool:
    """Whether the key may be sent there: by https, or within this machine."""
    parts = urlsplit(endpoint)
    if parts.query or parts.fragment or not parts.hostname:
        return False
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
