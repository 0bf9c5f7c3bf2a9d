"""Offer and answer (RFC 3264): what two descriptions agree on, for one audio stream.

Traps of the field that are taken care of here. The direction is worked out anew from each offer, never repeated from
the last answer. An address of 0.0.0.0 says "send nothing" (the old way to hold) and is no new address. Telephone
events are matched by clock rate. The answer has the offer's payload types and as many media lines. Comfort noise is
taken from who offers it, and never asked for. Keys for SRTP are offered and taken in RTP/AVP, too ("best effort"):
RFC 4568 section 4 wants them in RTP/SAVP only, but that is refused by whoever has no SRTP, while an attribute that is
not known is passed over. Asterisk calls it optimistic encryption, and baresip "srtp"; the answer may have either
profile, as Microsoft's telephones put RTP/SAVP there ([MS-SDPEXT]).
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, replace
from typing import Literal

from offhook.legs.sip import sdp
from offhook.legs.sip.sdp import INACTIVE, RECVONLY, SENDONLY, SENDRECV, Crypto, Description, Format, Media, SdpError

EVENTS = "telephone-event"
NOISE = "CN"
LEAST_PTIME_MS, MOST_PTIME_MS = 10, 60  # of what we send
_OFFERED = {
    "PCMU": Format(0, "PCMU", 8000),
    "PCMA": Format(8, "PCMA", 8000),
    "G722": Format(9, "G722", 8000),
    "opus": Format(107, "opus", 48_000, 2, "useinbandfec=1"),
}
_OFFERED_EVENTS = {8000: Format(101, EVENTS, 8000, 1, "0-16"), 48_000: Format(102, EVENTS, 48_000, 1, "0-16")}
_UNSPECIFIED = ("0.0.0.0", "::")


def payload_type(codec: str) -> int:
    """Return the payload type with which we offer a codec of `MediaPolicy`."""
    return _OFFERED[codec].payload_type


class NotAcceptable(ValueError):
    """There is nothing to agree on. `code` is the SIP status that says so: 488, or 400 for what is no description."""

    def __init__(self, reason: str, code: int = 488) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class MediaPolicy:
    """What we want. `codecs` in the order of preference, out of PCMU, PCMA, G722 and opus.

    `srtp`: "off" (who insists on it is refused), "allowed" (our offers leave it to the other side), or "required".
    """

    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    ptime_ms: int = 20
    rtcp_mux: bool = True
    srtp: Literal["off", "allowed", "required"] = "off"

    def __post_init__(self) -> None:
        """Raise ValueError for a codec that there is not, or none at all."""
        unknown = [name for name in self.codecs if name not in _OFFERED]
        if unknown or not self.codecs:
            raise ValueError(f"SIP codecs: one or more of {', '.join(_OFFERED)} are expected, not {', '.join(unknown)}")


@dataclass(frozen=True)
class Agreed:
    """What was agreed on. Types are payload types; the two of a direction differ only if the other side is odd."""

    codec: str
    rate: int  # of the RTP clock, Hz
    payload_type: int  # of what we send
    receive_type: int
    dtmf_type: int | None  # of the telephone events that we send, None for none
    receive_dtmf_type: int | None
    remote: tuple[str, int] | None  # None: keep the last one, they want nothing now
    sends: bool  # whether we may send
    receives: bool  # whether they may
    ptime_ms: int  # of what we send
    rtcp_mux: bool
    send_key: str = ""  # key parameters of SDES, "inline:…"; "" without SRTP
    receive_key: str = ""
    dtmf_rate: int = 8000  # clock of the events that we send, Hz
    parameters: str = ""  # what they say of the codec, a=fmtp

    @property
    def held(self) -> bool:
        """Whether the other side wants nothing from us: we are on hold."""
        return not self.sends


@dataclass(frozen=True)
class Said:
    """What a negotiation has come to: for another one to go on from, in another process."""

    id: int
    local: Description | None
    formats: tuple[Format, ...]
    key: str


class Negotiation:
    """One leg's side of all offers and answers of its call. It knows what was said last, and counts versions."""

    def __init__(self, policy: MediaPolicy, host: str, said: Said | None = None) -> None:
        """`host`: the address at which the other side reaches our RTP ports. `said`: what the one before it had."""
        self._policy = policy
        self._host = host
        self._id = secrets.randbits(31)
        self._local: Description | None = None  # said last
        self._formats: tuple[Format, ...] = ()  # of ours that were agreed on: codec, and telephone events if any
        self._key = ""  # ours, the same as long as audio is encrypted
        if said is not None:
            self._id, self._local, self._formats, self._key = said.id, said.local, said.formats, said.key

    @property
    def said(self) -> Said:
        return Said(self._id, self._local, self._formats, self._key)

    def consider(self, offer: str) -> Agreed:
        """Return what an answer to `offer` would agree on. Raises `NotAcceptable`."""
        return self._choose(_parse(offer), hold=False)[1]

    def answer(self, offer: str, port: int, hold: bool = False) -> tuple[str, Agreed]:
        """Return our answer, with our RTP `port` in it, and what is agreed on with it. Raises `NotAcceptable`.

        `hold`: we have put them on hold, and do not want to hear them whatever they offer.
        """
        description = _parse(offer)
        index, agreed, media = self._choose(description, hold)
        lines = [replace(line, port=0) for line in description.media]
        lines[index] = replace(media, port=port)
        self._formats, self._key = media.formats, agreed.send_key
        return self._say(tuple(lines)), agreed

    def offer(self, port: int, hold: bool = False) -> str:
        """Return our offer: all that the policy has, or what was agreed on once something was. Other media lines that
        they had once stay rejected."""
        policy = self._policy
        formats = self._formats
        if not formats:
            codecs = [_OFFERED[name] for name in policy.codecs]
            rates = dict.fromkeys(one.rate for one in codecs)
            formats = (*codecs, *(_OFFERED_EVENTS[rate] for rate in rates))
        secure = bool(self._key) if self._formats else policy.srtp != "off"
        before = self._local.media if self._local else ()
        audio = next((n for n, line in enumerate(before) if line.port), 0)
        ours = Media(
            "audio",
            port,
            before[audio].profile if before else "RTP/SAVP" if policy.srtp == "required" else "RTP/AVP",
            formats,
            direction=SENDONLY if hold else SENDRECV,
            ptime=policy.ptime_ms,
            rtcp_mux=policy.rtcp_mux,
            crypto=(Crypto(1, sdp.SUITE, self._our_key()),) if secure else (),
        )
        lines = [replace(line, port=0) for line in before] or [ours]
        lines[audio] = ours
        return self._say(tuple(lines))

    def accept(self, answer: str) -> Agreed:
        """Return what their answer to our last offer agrees on. Raises `NotAcceptable`."""
        if self._local is None:
            raise NotAcceptable("an answer to no offer")
        description = _parse(answer)
        if len(description.media) != len(self._local.media):
            raise NotAcceptable("the answer has not as many media lines as the offer")
        for ours, theirs in zip(self._local.media, description.media, strict=True):
            if ours.port and theirs.usable and (theirs.secure == ours.secure or (theirs.secure and ours.crypto)):
                return self._accepted(ours, theirs)
        raise NotAcceptable("the answer has no audio that we offered")

    # ------------------------------------------------------------------------------------------ their offer

    def _choose(self, description: Description, hold: bool) -> tuple[int, Agreed, Media]:
        reason = "no audio over RTP is offered"
        for index, offered in enumerate(description.media):
            if not offered.usable:
                continue
            try:
                agreed, media = self._answered(offered, hold)
            except NotAcceptable as error:
                reason = str(error)
            else:
                return index, agreed, media
        raise NotAcceptable(reason)

    def _answered(self, offered: Media, hold: bool) -> tuple[Agreed, Media]:
        theirs = self._crypto(offered)
        codec = self._codec_of(offered.formats)
        events = _events_for(offered.formats, codec.rate)
        wanted = _direction(offered)
        sends, receives = wanted in (SENDRECV, RECVONLY), wanted in (SENDRECV, SENDONLY) and not hold
        agreed = Agreed(
            _canonical(codec),
            codec.rate,
            codec.payload_type,
            codec.payload_type,
            events.payload_type if events else None,
            events.payload_type if events else None,
            _remote(offered),
            sends,
            receives,
            self._ptime(offered),
            offered.rtcp_mux and self._policy.rtcp_mux,
            self._our_key() if theirs else "",
            theirs.key if theirs else "",
            events.rate if events else 8000,
            codec.parameters,
        )
        media = Media(
            "audio",
            0,
            offered.profile,
            self._ours(codec, offered.formats, events),
            direction={(True, True): SENDRECV, (True, False): SENDONLY, (False, True): RECVONLY}.get(
                (sends, receives), INACTIVE
            ),
            ptime=agreed.ptime_ms,
            rtcp_mux=agreed.rtcp_mux,
            crypto=(Crypto(theirs.tag, sdp.SUITE, self._our_key()),) if theirs else (),
        )
        return agreed, media

    def _ours(self, codec: Format, offered: tuple[Format, ...], events: Format | None) -> tuple[Format, ...]:
        """Return what is answered: their payload types, our parameters."""
        codec = replace(codec, parameters=_OFFERED[_canonical(codec)].parameters)
        noise = [one for one in offered if one.is_called(NOISE) and one.rate == codec.rate][:1]
        return (codec, *noise, *([replace(events, parameters="0-16")] if events else []))

    def _crypto(self, media: Media) -> Crypto | None:
        spoken = self._policy.srtp != "off"
        found = next((one for one in media.crypto if one.suite == sdp.SUITE and spoken), None)
        if found is None and media.secure:
            raise NotAcceptable(f"of SRTP, only {sdp.SUITE} is spoken here" if spoken else "SRTP is not spoken here")
        if found is None and self._policy.srtp == "required":
            raise NotAcceptable("SRTP is required here")
        return found

    def _codec_of(self, formats: tuple[Format, ...]) -> Format:
        """Return their format of the codec that is spoken already, or else of the one that we like best."""
        for name in (*(one.name for one in self._formats), *self._policy.codecs):
            ours = _OFFERED.get(name)
            for one in formats:
                if ours and one.is_called(name) and one.rate == ours.rate:
                    return one
        raise NotAcceptable(f"none of the codecs {', '.join(self._policy.codecs)}")

    def _ptime(self, media: Media) -> int:
        """Return what they ask for, in whole 10 ms."""
        wanted = min(media.ptime or self._policy.ptime_ms, media.maxptime or MOST_PTIME_MS)
        return max(LEAST_PTIME_MS, min(wanted // 10 * 10, MOST_PTIME_MS))

    # ------------------------------------------------------------------------------------------ our offer

    def _accepted(self, ours: Media, theirs: Media) -> Agreed:
        codec, offered = _first_common(ours.formats, theirs.formats)
        events = _events_for(theirs.formats, codec.rate)
        offered_events = _events_for(ours.formats, events.rate) if events else None
        wanted = _direction(theirs)
        crypto = self._crypto(theirs) if ours.crypto else None
        self._key = ours.crypto[0].key if crypto else ""
        self._formats = (offered, *((offered_events,) if events and offered_events else ()))
        return Agreed(
            _canonical(codec),
            codec.rate,
            codec.payload_type,
            offered.payload_type,
            events.payload_type if events else None,
            offered_events.payload_type if events and offered_events else None,
            _remote(theirs),
            wanted in (SENDRECV, RECVONLY),
            wanted in (SENDRECV, SENDONLY) and ours.direction != SENDONLY,
            self._ptime(theirs),
            ours.rtcp_mux and theirs.rtcp_mux,
            self._key,
            crypto.key if crypto else "",
            events.rate if events else 8000,
            codec.parameters,
        )

    # ------------------------------------------------------------------------------------------ both

    def _say(self, media: tuple[Media, ...]) -> str:
        last = self._local
        version = 1 if last is None else last.version + (last.media != media)
        self._local = Description(media, self._host, self._id, version)
        return str(self._local)

    def _our_key(self) -> str:
        if not self._key:
            self._key = "inline:" + base64.b64encode(secrets.token_bytes(30)).decode()
        return self._key


def _parse(text: str) -> Description:
    try:
        return sdp.parse(text)
    except SdpError as error:
        raise NotAcceptable(str(error), 400) from None


def _direction(media: Media) -> str:
    """Return what they want: the direction as they see it, less sending to us when there is no address to send to."""
    if media.host in _UNSPECIFIED:
        return {SENDRECV: SENDONLY, RECVONLY: INACTIVE}.get(media.direction, media.direction)
    return media.direction


def _remote(media: Media) -> tuple[str, int] | None:
    return None if media.host in _UNSPECIFIED else (media.host, media.port)


def _events_for(formats: tuple[Format, ...], rate: int) -> Format | None:
    """Return the telephone events with this clock, or else those with 8 kHz."""
    events = {one.rate: one for one in reversed(formats) if one.is_called(EVENTS)}
    return events.get(rate) or events.get(8000)


def _first_common(ours: tuple[Format, ...], theirs: tuple[Format, ...]) -> tuple[Format, Format]:
    for one in theirs:
        for offered in ours:
            if offered.name in _OFFERED and one.is_called(offered.name) and one.rate == offered.rate:
                return one, offered
    raise NotAcceptable("the answer has no codec that we offered")


def _canonical(codec: Format) -> str:
    return next(name for name in _OFFERED if codec.is_called(name))
