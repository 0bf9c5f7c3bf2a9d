"""Call records: a line of JSON for each call that is over (docs/call-records.md), added to a file.

The file is opened for each batch of lines and closed again: whoever rotates it may move it away at any time. Writing is
done in a thread, so that a slow disk holds nothing up. While the disk takes nothing, records wait: `WAITING` of them,
then the oldest are given up. `known` tells which of the last calls have a record, from the end of the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from offhook.call.model import EndCause, Release
from offhook.server import causes
from offhook.server.accounts import AppAccount, Ending, LegAccount, LegAudio
from offhook.server.logs import redact
from offhook.server.records import CallRecord

log = logging.getLogger(__name__)

WAITING = 10_000  # records that wait to be written
BATCH = 500  # records that are written at once
RETRY_S = 5.0  # until the disk is tried again that took nothing
CLOSE_S = 2.0  # for what waits, at the end
TAIL = 1 << 20  # bytes at the end of the file that are read at the start


class RecordFile:
    """Adds records to a file. Make it before the first call; `redacted`: numbers are masked.

    Raises OSError when the file cannot be written. It is made for its owner only: it holds numbers.
    """

    def __init__(self, path: Path, redacted: bool = False) -> None:
        self.path = path
        self.redacted = redacted
        self.written = self.given_up = 0  # records
        self.known = _ids_at_the_end(path)
        self._waiting: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def write(self, record: dict[str, Any], done: Callable[[], None]) -> None:
        """Add a record, soon; `done` is called when it is in the file, or was given up."""
        line = msgspec.json.encode(record).decode()
        self._waiting.append(((redact(line) if self.redacted else line).encode() + b"\n", done))
        if len(self._waiting) > WAITING:
            self.given_up += 1
            self._waiting.popleft()[1]()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def close(self) -> None:
        """Write what waits, if the disk takes it now."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_S)
            self._task.cancel()
        if self._waiting:
            log.error("%d call records could not be written to %s", len(self._waiting), self.path)

    async def _write_all(self) -> None:
        failed = False
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await asyncio.to_thread(_append, self.path, b"".join(line for line, _ in batch))
            except OSError as error:
                if not failed:
                    log.error("call records cannot be written, and wait: %s", error)
                failed = True
                self._waiting.extendleft(reversed(batch))
                await asyncio.sleep(RETRY_S)
                continue
            if failed:
                log.warning("call records are written again; %d were given up since the start", self.given_up)
            failed = False
            self.written += len(batch)
            for _, done in batch:
                done()


def _append(path: Path, lines: bytes) -> None:
    """Add whole lines or none: one that was torn, by a full disk or the end of the machine, is not gone on with."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(file).st_size
        if size:
            os.lseek(file, size - 1, os.SEEK_SET)
            lines = lines if os.read(file, 1) == b"\n" else b"\n" + lines
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _ids_at_the_end(path: Path) -> set[str]:
    """Return the ids of the records in the last TAIL bytes of the file, which is made if it is not there."""
    _append(path, b"")
    ids = set()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        for line in file:
            try:
                ids.add(str(msgspec.json.decode(line)["id"]))
            except (msgspec.DecodeError, KeyError, TypeError):
                continue  # Its beginning was cut off, or it was torn.
    return ids


# ------------------------------------------------------------------------------------------------ what they say


def describe(record: CallRecord) -> dict[str, Any]:
    """Return the record of a call that is over. Keys without a value are left out."""
    data, account = record.data, record.account
    assert account is not None
    return _without_none(
        id=data.id,
        serverCallId=data.server_call_id,
        correlationId=data.correlation_id,
        direction="inbound" if account.inbound else "outbound",
        **{"from": data.caller},
        to=account.targets,
        started=_time(record.began),
        answered=_time(account.answered),
        ended=_time(account.ended),
        seconds=_seconds(account.answered, account.ended),
        **_ending(account.ending),
        connections=[_app(id, app) for id, app in account.apps.items()],
        legs=[_leg(leg) for leg in account.legs.values()],
    )


def _app(id: str, app: AppAccount) -> dict[str, Any]:
    return {
        "callConnectionId": id,
        "party": app.party,
        "role": app.role,
        "streamSeconds": round(app.seconds, 2),
        "messagesSent": app.sent,
        "framesPlayed": app.played,
    }


def _leg(leg: LegAccount) -> dict[str, Any]:
    return _without_none(
        party=leg.party,
        direction="outbound" if leg.called else "inbound",
        started=_time(leg.began),
        answered=_time(leg.answered),
        ended=_time(leg.ended),
        movedTo=leg.moved_to or None,
        **_ending(leg.ending, leg if leg.audio is not None else None),
        audio=None if leg.audio is None else _audio(leg.audio),
    )


def _audio(audio: LegAudio) -> dict[str, Any]:
    return _without_none(
        codec=audio.codec,
        packetsReceived=audio.received,
        packetsLost=audio.lost,
        packetsLate=audio.late,
        packetsDuplicated=audio.duplicates,
        packetsSent=audio.sent,
        jitterMs=audio.jitter_ms,
        delayMs=audio.delay_ms,
        roundTripMs=audio.round_trip_ms,
        mos=audio.mos,
    )


def _ending(ending: Ending | None, telephone: LegAccount | None = None) -> dict[str, Any]:
    """Return who ended it and why; of a telephone's leg that we have ended, what it was told."""
    if ending is None:
        return {}
    release = ending.release
    if release is None and telephone is not None:
        release = _told(telephone, ending.cause)
    return _without_none(
        endedBy=ending.by,
        endedByParty=ending.party or None,
        cause=ending.cause.name.lower(),
        sip=None if release is None else {"code": release.sip, "message": release.sip_text},
        q850=None if release is None else {"code": release.q850, "message": release.q850_text},
    )


def _told(leg: LegAccount, cause: EndCause) -> Release | None:
    """Return what our BYE or refusal has said; a CANCEL says nothing."""
    if leg.answered is not None:
        q850 = causes.goodbye(cause)
        return Release(200, "OK", q850, causes.text(q850))
    if leg.called:
        return None
    status, q850 = causes.refusal(cause)
    return Release(status, causes.phrase(status), q850, causes.text(q850))


def _time(unix: float | None) -> str | None:
    """Return a time in ISO 8601, UTC, to the millisecond."""
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(began: float | None, ended: float | None) -> float:
    return 0.0 if began is None or ended is None else round(ended - began, 3)


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
