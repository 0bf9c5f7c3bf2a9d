"""SIP as a part of the server: from its configuration to a stack that listens, and the lines of its telephones."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from offhook.legs.sip.guard import Phone, Trunk
from offhook.legs.sip.stack import Settings as StackSettings
from offhook.legs.sip.stack import SipStack
from offhook.legs.sip.transport import Listen
from offhook.server.config import Settings
from offhook.server.control import Control
from offhook.server.phone_book import PhoneBook
from offhook.server.telephones import Telephones
from offhook.wire.ids import stable_user

log = logging.getLogger(__name__)


@asynccontextmanager
async def telephones(
    settings: Settings, control: Control, tls_server: ssl.SSLContext, tls_client: ssl.SSLContext
) -> AsyncIterator[SipStack | None]:
    """Take calls of telephones and call them, as `settings` say; None when they say that there are none.

    Raises OSError when a port is taken, `ValueError` for settings that SIP cannot be spoken with.
    """
    sip = settings.sip
    if not sip.on:
        yield None
        return
    host = sip.host or settings.host
    book = PhoneBook(sip.region, partial(stable_user, settings.resource))
    _fill(book, settings)
    lines = Telephones(control, sip, host, book)
    stack = SipStack(_stack_settings(settings, host), lines.on_invite, tls_server, tls_client)
    lines.stack = stack
    control.exchange.use_telephones(lines)
    control.exchange.places.use(stack.restore)
    stack.on_places = control.exchange.places.note
    await stack.start()
    where = ", ".join(f"{transport} {port}" for transport, port in stack.ports.items())
    log.info("SIP on %s: %s", host, where)
    try:
        yield stack
    finally:
        await stack.close()


def reload(stack: SipStack, control: Control, settings: Settings) -> None:
    """Take trunks, phones and routes anew. Raises ValueError, and changes nothing, when they do not fit together."""
    lines = control.exchange.telephones
    if lines is not None:
        anew = _stack_settings(settings, "")
        stack.reload(anew.trunks, anew.phones)
        _fill(lines.book, settings)


def _fill(book: PhoneBook, settings: Settings) -> None:
    book.use([route.route() for route in settings.route], settings.phone, settings.trunk)


def _stack_settings(settings: Settings, host: str) -> StackSettings:
    sip = settings.sip
    listen = []
    if sip.port is not None:
        listen += [Listen("udp", host, sip.port), Listen("tcp", host, sip.port)]
    if sip.tls_port is not None:
        listen.append(Listen("tls", host, sip.tls_port))
    trunks = tuple(
        Trunk(
            trunk.name,
            tuple(map(str, trunk.allow)),
            trunk.server,
            trunk.user,
            trunk.password,
            trunk.register_,
            trunk.challenge,
        )
        for trunk in settings.trunk
    )
    phones = tuple(Phone(phone.user, phone.password) for phone in settings.phone)
    return StackSettings(
        tuple(listen), sip.advertised, sip.realm, trunks=trunks, phones=phones, max_sessions=settings.max_calls
    )
