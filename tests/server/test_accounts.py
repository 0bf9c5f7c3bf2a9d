"""Accounts of calls: what they note, their bounds, and the figures that come late, twice or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.call import Call
from offhook.call.model import (
    Asker,
    CallData,
    Connection,
    EndCause,
    Leg,
    LegState,
    MediaStream,
    Release,
    StreamState,
)
from offhook.media.tidings import LegFigures
from offhook.server import accounts
from offhook.server.accounting import FIGURES_S, Accounting
from offhook.server.accounts import Account, Ending
from offhook.server.call_records import RecordFile
from offhook.server.placement import Worker
from offhook.server.records import CallRecord
from offhook.server.steps import Steps
from offhook.testing.clock import run
from offhook.wire.ids import IdMint

PARTY, APP = "4:+15550100", "8:app"
RELEASE = Release(486, "Busy Here", 17, "User busy")
COUNTS = ("received", "lost", "late", "discarded", "duplicates", "sent")


def call_data() -> CallData:
    stream = MediaStream("subscription", None, StreamState.DISABLED)
    data = CallData("call", "server-call", "correlation", PARTY)
    data.connections["app"] = Connection("app", APP, "https://app.example", "2026-03-12", stream)
    data.legs["leg"] = Leg("leg", PARTY, LegState.CONNECTED, inviter=True)
    return data


def figures(leg: str = "leg") -> LegFigures:
    return LegFigures(leg, "PCMU", dict.fromkeys(COUNTS, 100), {"jitter_ms": 1.0, "delay_ms": 20, "round_trip_ms": 9})


# ------------------------------------------------------------------------------------------------ what is noted


@pytest.mark.parametrize(
    ("message", "ending"),
    [
        (m.HangUp("app"), Ending("app", EndCause.HUNG_UP_BY_APP, APP)),
        (m.Terminate("app"), Ending("app", EndCause.HUNG_UP_BY_APP, APP)),
        (p.RemoveParticipant(Asker("app"), PARTY), Ending("app", EndCause.REMOVED, APP)),
        (p.CancelAdd(Asker("app"), "invitation"), Ending("app", EndCause.CANCELED, APP)),
        (m.Reject("invitation", EndCause.BUSY), Ending("app", EndCause.BUSY)),
        (m.LegEnded("leg", EndCause.BUSY, RELEASE), Ending("party", EndCause.BUSY, PARTY, RELEASE)),
        (m.RingTimedOut("invitation"), Ending("server", EndCause.NO_ANSWER)),
        (m.Unreachable("invitation"), Ending("server", EndCause.UNREACHABLE)),
        (m.EndCall(EndCause.MEDIA_LOST), Ending("server", EndCause.MEDIA_LOST)),
        (p.Abandoned(), Ending("party", EndCause.CANCELED, PARTY)),
        (p.TransferDone("other"), Ending("party", EndCause.REMOTE_LEFT)),
    ],
)
def test_who_ended_a_call_follows_from_the_message_that_did(message: m.Message, ending: Ending) -> None:
    account = Account()
    account.note(call_data(), message, [m.CallOver()], 5.0)
    assert (account.ended, account.ending) == (5.0, ending)


def test_a_leg_that_comes_back_goes_on() -> None:
    account, data = Account(), call_data()
    leg = data.legs["leg"]
    account.note(data, m.LegConnected("leg"), [], 1.0)
    del data.legs["leg"]
    account.note(data, p.TransferAnswered("other"), [p.HandOver(leg, "other")], 2.0)
    assert (account.legs["leg"].ended, account.legs["leg"].moved_to) == (2.0, "other")
    data.legs["leg"] = leg
    account.note(data, p.LegArrived(leg), [], 3.0)
    assert (account.legs["leg"].ended, account.legs["leg"].moved_to) == (None, "")


def test_the_first_end_of_a_leg_counts() -> None:
    account, data = Account(), call_data()
    account.note(data, m.LegConnected("leg"), [], 1.0)
    account.note(data, m.LegEnded("leg", EndCause.BUSY, RELEASE), [m.EndLeg("leg", EndCause.REMOVED)], 2.0)
    account.note(data, m.LegEnded("leg", EndCause.MEDIA_LOST), [], 3.0)
    assert account.legs["leg"].ended == 2.0
    assert account.legs["leg"].ending == Ending("party", EndCause.BUSY, PARTY, RELEASE)


def test_a_transferee_is_not_of_the_call_to_the_target_before_he_is_there() -> None:
    account, data = Account(), call_data()
    data.legs["leg"].of_call = "first"
    account.note(data, m.LegConnected("leg"), [], 1.0)
    assert account.legs == {}


def test_of_many_that_come_and_go_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "LEGS", 3)
    monkeypatch.setattr(accounts, "APPS", 1)
    account, data = Account(), call_data()
    for number in range(5):
        data.legs = {str(number): Leg(str(number), PARTY, LegState.CONNECTED)}
        data.connections = {str(number): call_data().connections["app"]}
        data.connections[str(number)].id = str(number)
        account.note(data, m.LegConnected(str(number)), [m.Invite("invitation", f"4:+1555010{number}")], 1.0)
    assert list(account.legs) == ["2", "3", "4"]
    assert list(account.apps) == ["4"]
    assert len(account.targets) == 5


def test_no_more_targets_are_kept_than_there_is_room_for() -> None:
    account = Account()
    effects: list[m.Effect] = [m.Invite("invitation", str(number % 30)) for number in range(100)]
    account.note(call_data(), m.LegConnected("leg"), effects, 1.0)
    assert account.targets == [str(number) for number in range(accounts.TARGETS)]


# ------------------------------------------------------------------------------------------------ figures


class Books:
    """An accounting with one call, in a worker that keeps nothing."""

    def __init__(self, path: Path) -> None:
        self.steps = Steps([], self.keep, lambda parcel, settled: None)
        self.accounting = Accounting(self.steps, asyncio.get_running_loop().time)
        self.accounting.file = RecordFile(path)
        worker = Worker(0, partial(IdMint, 0, 0), "")
        self.record = CallRecord(Call(call_data()), worker, 0.0)
        self.accounting.begin(self.record)

    def keep(self, record: CallRecord) -> None:
        self.accounting.settle(record)

    def do(self, act: Callable[..., None], *args: Any) -> None:
        with self.steps.step():
            act(*args)

    def end(self) -> None:
        """The caller hangs up."""
        with self.steps.step():
            effects = self.record.call.handle(m.LegEnded("leg", EndCause.REMOTE_LEFT), 0)
            self.accounting.note(self.record, m.LegEnded("leg", EndCause.REMOTE_LEFT), effects)
            self.accounting.over(self.record)
            self.steps.change(self.record)


def hold(path: Path, scenario: Callable[[Books], Awaitable[None]]) -> list[dict[str, Any]]:
    async def main() -> None:
        books = Books(path)
        await scenario(books)
        await asyncio.sleep(1)
        assert not books.record.undelivered
        assert not books.accounting._legs
        assert not books.accounting._waiting

    run(main())
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_record_waits_for_the_figures_of_its_legs(tmp_path: Path) -> None:
    async def scenario(books: Books) -> None:
        books.do(books.accounting.note, books.record, m.LegConnected("leg"), [])
        books.do(books.accounting.leg_opened, "leg", books.record)
        books.do(books.accounting.leg_opened, "leg", books.record)  # told again by the worker
        books.end()
        await asyncio.sleep(1)
        assert books.accounting.file is not None
        assert books.accounting.file.written == 0
        books.do(books.accounting.take_figures, figures())
        books.do(books.accounting.take_figures, figures())
        await asyncio.sleep(1)
        assert books.accounting.file.written == 1

    (record,) = hold(tmp_path / "records.jsonl", scenario)
    assert record["legs"][0]["audio"]["packetsReceived"] == 100


def test_a_record_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def scenario(books: Books) -> None:
        books.do(books.accounting.note, books.record, m.LegConnected("leg"), [])
        books.do(books.accounting.leg_opened, "leg", books.record)
        books.end()
        await asyncio.sleep(FIGURES_S)

    (record,) = hold(tmp_path / "records.jsonl", scenario)
    assert "audio" not in record["legs"][0]


def test_who_takes_over_gets_the_figures_that_are_to_come(tmp_path: Path) -> None:
    async def scenario(books: Books) -> None:
        assert books.record.account is not None
        books.do(books.accounting.note, books.record, m.LegConnected("leg"), [])
        books.record.account.due.append("leg")
        books.record.data.over = True
        books.do(books.accounting.adopt, books.record)
        books.do(books.accounting.take_figures, figures())

    (record,) = hold(tmp_path / "records.jsonl", scenario)
    assert record["legs"][0]["audio"]["codec"] == "PCMU"


def test_who_takes_over_writes_no_record_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id":"call"}\n', "utf-8")

    async def scenario(books: Books) -> None:
        books.record.data.over = True
        books.do(books.accounting.adopt, books.record)

    assert hold(path, scenario) == [{"id": "call"}]


def test_at_the_end_all_records_are_written(tmp_path: Path) -> None:
    async def scenario(books: Books) -> None:
        books.do(books.accounting.note, books.record, m.LegConnected("leg"), [])
        books.do(books.accounting.leg_opened, "leg", books.record)
        books.end()
        await books.accounting.close()
        assert len((tmp_path / "records.jsonl").read_text("utf-8").splitlines()) == 1

    hold(tmp_path / "records.jsonl", scenario)
