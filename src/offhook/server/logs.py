"""The log of the server's processes: one form, on standard error, and telephone numbers masked in it if that is asked.

What is asked of the log may be asked of call records, too: both are read by people whom no number concerns.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offhook.server.config import Settings

_NUMBER = re.compile(r"\+\d{5,}|\b(?:4:|tel:)\+?\d+|\bsips?:[^\s@;<>\"]+(?=@)", re.IGNORECASE)
_WORD = re.compile(r"[\w.+-]+")
_SHOWN = 2  # digits, or letters of a user, at the end


def begin(process: str = "") -> None:
    """Log from now on; each line says which `process` it is from, if there are several."""
    where = f"[{process}] " if process else ""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {where}%(name)s: %(message)s")
    logging.getLogger("picows").setLevel(logging.WARNING)  # it tells of every connection


def configure(settings: Settings) -> None:
    """Mask numbers, and the users of SIP phones, in all that is logged from now on, if `settings` want it so."""
    if not settings.logs.redact_numbers:
        return
    users = frozenset(phone.user for phone in settings.phone)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Redacting(handler.formatter or logging.Formatter(), users))


def redact(text: str, users: Collection[str] = ()) -> str:
    """Return `text` with telephone numbers masked, all but the last two digits: numbers in E.164, raw ids of numbers,
    and what stands before the @ of a SIP URI; besides, wherever they stand alone, the names in `users`."""
    masked = _NUMBER.sub(lambda match: _mask(match[0]), text)
    return _WORD.sub(lambda match: _mask(match[0]) if match[0] in users else match[0], masked) if users else masked


def _mask(found: str) -> str:
    kind, colon, number = found.rpartition(":")
    plus = "+" if number.startswith("+") else ""
    number = number.removeprefix("+")
    return f"{kind}{colon}{plus}{'*' * (len(number) - _SHOWN)}{number[-_SHOWN:]}"


class _Redacting(logging.Formatter):
    """Masks what another formatter makes, tracebacks included."""

    def __init__(self, inner: logging.Formatter, users: Collection[str]) -> None:
        super().__init__()
        self._inner = inner
        self._users = users

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._inner.format(record), self._users)
