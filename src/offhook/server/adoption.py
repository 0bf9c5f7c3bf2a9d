"""How a control process that was killed is followed by another: what each worker keeps of control, and how it is read.

A worker keeps, opaque to it, one value for each call, each waiting phone and each event on its way (`media.keeping`).
`Step` gathers what one message leads to and tells the worker all at once, so that a call's copy, the orders that
follow, the events and the tiding that is done with can never disagree.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from offhook.call.model import CallData
from offhook.call.operations import Failure, Problem
from offhook.legs.sip.memento import Memento, Place, Ringing
from offhook.legs.sip.negotiation import Agreed, Said
from offhook.media.link import Act, Commit, Link
from offhook.media.tidings import UNCOUNTED, Tiding
from offhook.media.weather import Weather
from offhook.server.accounts import Account
from offhook.server.delivery import Parcel
from offhook.server.repeats import Answer, Done

log = logging.getLogger(__name__)

INTERRUPTED = "the server was restarted meanwhile"
COPY_LIMIT = 256 << 10  # bytes of one value; what is larger is not kept, and said
TIMELINE_TAIL = 20  # newest entries of a call's timeline that its copy has
LAZY = 100  # tidings that changed nothing; with the next one the worker is told so


class Ring(NamedTuple):
    """An invitation that is still open. `token`: of its incomingCallContext; "" when a phone rings."""

    until: float  # Unix time
    token: str


class CallCopy(msgspec.Struct, tag="call"):
    """A call as control knows it. A usual one (a caller, an app with a stream) has about 1.8 KiB."""

    data: CallData
    began: float
    rings: dict[str, Ring]  # by invitation
    streams: list[tuple[str, int]]  # (connection, epoch) whose StreamEnded is to come
    stats: dict[str, dict[str, int]]
    timeline: list[dict[str, Any]]  # its newest TIMELINE_TAIL entries
    weather: Weather | None = None
    events: dict[str, int] = {}  # so far, by kind; counted under weather only
    account: Account | None = None  # where call records are written
    borrowed: dict[str, int] = {}  # by leg: the number of the other worker where it is


class PhoneCopy(msgspec.Struct, tag="phone"):
    """A phone that waits. Whether it is in a call, that call knows.

    `token`: of the audio socket that its client has been told to move to, and has not opened yet.
    """

    leg: str
    party: str
    rate: int
    attached: bool
    token: str = ""
    weather: Weather | None = None


class EventCopy(msgspec.Struct, tag="event"):
    """An event of `call` that has not been delivered yet."""

    call: str
    parcel: Parcel


class AnswerCopy(msgspec.Struct, tag="answer"):
    """What was answered to a request about `call`: see `server.repeats`."""

    call: str
    id: str
    done: Done[Answer]


class LineCopy(msgspec.Struct, tag="line"):
    """A telephone in a call (`server.telephones`); some 3 KiB. `memento`: None until there is an INVITE. `to`: whom we
    call, a raw id."""

    leg: str
    port: int
    agreed: Agreed | None
    said: Said
    memento: Memento | Ringing | None
    to: str = ""


class PlacesCopy(msgspec.Struct, tag="places"):
    """Where a phone is registered (`server.places`)."""

    user: str
    places: tuple[Place, ...]


Copy = CallCopy | PhoneCopy | EventCopy | AnswerCopy | LineCopy | PlacesCopy


def encode(copy: Copy) -> bytes:
    """Return `copy` as the worker keeps it.

    A call that is larger than COPY_LIMIT goes without its timeline and its custom contexts, which only a redirect to
    another app would need; and, if that is not enough, without the sources of prompts not made yet, which then fail.
    """
    data = _encoder.encode(copy)
    if len(data) > COPY_LIMIT and isinstance(copy, CallCopy):
        copy = structs.replace(copy, timeline=[], data=_without_contexts(copy.data))
        data = _encoder.encode(copy)
        if len(data) > COPY_LIMIT:
            data = _encoder.encode(structs.replace(copy, data=_without_prompts(copy.data)))
    return data


def _without_contexts(data: CallData) -> CallData:
    invitations = {
        id: each if each.shown is None else replace(each, shown=replace(each.shown, custom_context=None))
        for id, each in data.invitations.items()
    }
    return replace(data, custom_context=None, invitations=invitations)


def _without_prompts(data: CallData) -> CallData:
    lost = Failure(Problem.SPEECH_SERVICE, INTERRUPTED, 0)
    operations = {
        id: replace(each, sources=(), failure=lost) if each.sources else each for id, each in data.operations.items()
    }
    return replace(data, operations=operations)


def decode(data: bytes) -> Copy:
    """Return what `encode` was given. Raises `msgspec.DecodeError`."""
    return _decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Copy] = msgspec.msgpack.Decoder(Copy)


class Step:
    """What one message leads to for one worker, gathered until `take`; and which tidings of the link are done with.

    As long as the other end has not said that it keeps anything, which it does when the link is up, orders are sent one
    by one and nothing else is.
    """

    def __init__(self) -> None:
        self.keeps = False
        self._values: dict[str, bytes | None] = {}  # None: to be forgotten
        self._orders: list[Act] = []
        self._seen = 0
        self._told = 0  # up to which tiding the worker knows that it has been seen

    def saw(self, tiding: Tiding) -> None:
        """`tiding` is being handled: with this step it is done with."""
        self._seen += not isinstance(tiding, UNCOUNTED)

    def order(self, order: Act) -> None:
        self._orders.append(order)

    def put(self, key: str, copy: Copy) -> None:
        """Let the worker keep `copy` under `key`, instead of what it has there."""
        if self.keeps:
            data = encode(copy)
            self._values[key] = data if len(data) <= COPY_LIMIT else None
            if len(data) > COPY_LIMIT:
                log.error("%s has %d bytes, too many to be kept: it would not outlive this process", key, len(data))

    def delete(self, key: str) -> None:
        """Let the worker forget what it has under `key`."""
        if self.keeps:
            self._values[key] = None

    def take(self, link: Link | None) -> None:
        """Tell the worker, if there is anything to tell; nobody gets it when it is gone."""
        if link is None:
            pass
        elif not self.keeps:
            for order in self._orders:
                link.send(order)
        elif self._orders or self._values or self._seen - self._told > LAZY:
            # What changed nothing and was not acknowledged is told again to the next control, and changes nothing.
            put = {key: value for key, value in self._values.items() if value is not None}
            delete = tuple(key for key, value in self._values.items() if value is None)
            link.send(Commit(self._seen, put, delete, tuple(self._orders)))
            self._told = self._seen
        self._values, self._orders = {}, []
