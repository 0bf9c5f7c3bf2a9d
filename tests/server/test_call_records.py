"""Call records: one line for each call, with what it was, whatever dies meanwhile; and a file that disks fail."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.server import test_placement
from tests.server.telephone_scene import CALLER, MOBILE, NUMBER, Scene, hold

from offhook.server import call_records
from offhook.server.accounting import RECORD
from offhook.server.call_records import RETRY_S, RecordFile
from offhook.server.config import ConfigError, Settings
from offhook.testing.clock import run

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

STREAM = {
    "transportUrl": "wss://app.example/audio",
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "startMediaStreaming": True,
    "enableBidirectional": True,
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def with_telephones(
    in_memory: InMemory, path: Path, scenario: Callable[[Scene], Awaitable[None]], redacted: bool = False
) -> list[dict[str, Any]]:
    """Run `scenario` on a server that writes records, and return them."""

    async def recorded(scene: Scene) -> None:
        scene.server.control.exchange.accounting.file = RecordFile(path, redacted)
        await scenario(scene)
        await asyncio.sleep(1)

    hold(in_memory, recorded)
    return lines(path)


# ------------------------------------------------------------------------------------------------ what they say


def test_a_call_of_a_telephone(in_memory: InMemory, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered()
        await asyncio.sleep(20)
        line.live.hang_up(q850=16)

    (record,) = with_telephones(in_memory, tmp_path / "records.jsonl", scenario)
    assert (record["direction"], record["from"], record["to"]) == ("inbound", CALLER, [NUMBER])
    assert record["endedBy"], record["cause"] == ("party", "remote_left")
    assert record["endedByParty"] == CALLER
    assert record["sip"] == {"code": 200, "message": "OK"}
    assert record["q850"] == {"code": 16, "message": "Normal call clearing"}
    assert record["started"] < record["answered"] < record["ended"]
    assert 20 < record["seconds"] < 22
    (leg,) = record["legs"]
    assert (leg["party"], leg["direction"], leg["endedBy"]) == (CALLER, "inbound", "party")
    audio = leg["audio"]
    assert audio["codec"] == "PCMU"
    assert audio["packetsReceived"] > 50 * 20
    assert audio["packetsLost"] == audio["packetsLate"] == audio["packetsDuplicated"] == 0
    assert 4.3 < audio["mos"] < 4.42
    (connection,) = record["connections"]
    assert connection["role"] == "answered"
    assert 20 < connection["streamSeconds"] < 22
    assert connection["messagesSent"] > 50 * 20
    assert connection["framesPlayed"] > 50 * 15


@pytest.mark.parametrize(
    ("status", "q850", "cause"), [(486, 17, "busy"), (603, 21, "declined"), (404, 1, "unreachable")]
)
def test_a_telephone_that_does_not_answer(
    in_memory: InMemory, tmp_path: Path, status: int, q850: int, cause: str
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.rejects = status
        await scene.created(MOBILE)

    (record,) = with_telephones(in_memory, tmp_path / "records.jsonl", scenario)
    assert record["direction"] == "outbound"
    assert record["to"] == [MOBILE]
    assert record["cause"] == record["legs"][0]["cause"] == cause
    assert record["sip"]["code"] == record["legs"][0]["sip"]["code"] == status
    assert record["q850"]["code"] == q850
    assert record["seconds"] == 0
    assert "answered" not in record


def test_a_call_that_the_app_rejects_says_what_the_telephone_was_told(in_memory: InMemory, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        context = scene.server.context
        body = {"incomingCallContext": context, "callRejectReason": "busy"}
        answer = await scene.server.rest("POST", "/calling/callConnections:reject", body)
        assert answer.status == 204

    (record,) = with_telephones(in_memory, tmp_path / "records.jsonl", scenario)
    assert (record["endedBy"], record["cause"]) == ("app", "busy")
    assert record["legs"][0]["sip"]["code"] == 486
    assert record["legs"][0]["q850"] == {"code": 17, "message": "User busy"}


def test_a_call_of_a_simulated_caller_has_no_figures_of_packets(in_memory: InMemory, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    async def scenario(server: MemoryServer) -> None:
        server.control.exchange.accounting.file = RecordFile(path)
        await server.call()
        app = await server.answer(mediaStreamingOptions=STREAM)
        await asyncio.sleep(3)
        await server.hang_up(app)
        await server.settle(1)

    in_memory(scenario)
    (record,) = lines(path)
    assert (record["endedBy"], record["cause"]) == ("app", "hung_up_by_app")
    assert record["connections"][0]["streamSeconds"] == pytest.approx(3, abs=0.2)
    assert "audio" not in record["legs"][0]
    assert "sip" not in record


def test_numbers_are_masked_when_that_is_asked(in_memory: InMemory, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered()
        line.live.hang_up()

    path = tmp_path / "records.jsonl"
    (record,) = with_telephones(in_memory, path, scenario, redacted=True)
    assert record["from"] == "4:+******00"
    assert "+1555" not in path.read_text("utf-8")


def test_a_leg_that_is_transferred_has_its_figures_where_it_ends(in_memory: InMemory, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        line, connection = await scene.answered()
        await scene.do(connection, ":transferToParticipant", targetParticipant={"rawId": "4:+15550101"})
        await asyncio.sleep(2)
        line.live.hang_up()

    first, second = with_telephones(in_memory, tmp_path / "records.jsonl", scenario)
    assert first["legs"][0]["movedTo"] == second["id"]
    assert "audio" not in first["legs"][0]
    assert {leg["party"] for leg in second["legs"]} == {CALLER, "4:+15550101"}
    assert all(leg["audio"]["packetsReceived"] for leg in second["legs"])


# ------------------------------------------------------------------------------------------------ when something dies


def test_a_worker_that_is_lost_leaves_records_without_figures(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    async def scenario(exchange: test_placement.Exchange) -> None:
        exchange.control.exchange.accounting.file = RecordFile(path)
        phone = await exchange.phone(test_placement.ONE)
        await exchange.create(test_placement.ONE)
        phone.tell("answer")
        await test_placement.settle()
        exchange.lose(0)
        await test_placement.settle()
        (record,) = lines(path)
        assert (record["endedBy"], record["cause"]) == ("server", "media_lost")
        assert record["connections"][0]["messagesSent"] == 0

    test_placement.hold(scenario, workers=1)


@pytest.mark.parametrize("last", [False, True])
def test_there_is_one_record_whenever_control_is_killed(in_memory: InMemory, tmp_path: Path, last: bool) -> None:
    """At each point at which control tells or is told something, from the end of the call on."""

    def held(path: Path, after: int | None) -> int:
        """Hold a call, kill control so many points after its end began; return how many points there were."""
        points = 0

        async def scenario(server: MemoryServer) -> None:
            nonlocal points
            start = server.start_control

            def restart(end: Any) -> None:
                start(end)
                server.control.exchange.accounting.file = RecordFile(path)

            # What is killed in the middle of a task is nobody's to hear of.
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            kill = server.kill

            def die() -> None:
                accounting = server.control.exchange.accounting
                accounting._waiting.clear()
                if accounting.file is not None and accounting.file._task is not None:
                    accounting.file._task.cancel()
                kill()

            server.start_control, server.kill = restart, die  # type: ignore[method-assign]
            server.control.exchange.accounting.file = RecordFile(path)
            caller = await server.call()
            await server.answer(mediaStreamingOptions=STREAM)
            await server.settle(1)
            began = server.points
            if after is not None:
                server._kill_at = {began + after}
            caller.tell("hangUp")
            await server.settle(20)
            points = server.points - began

        in_memory(scenario)
        return points

    count = held(tmp_path / "whole.jsonl", None)
    assert count >= 4
    points = range(1, count + 1)[-6:] if last else range(1, count + 1)[:-6]
    for after in points:
        path = tmp_path / f"{after}.jsonl"
        held(path, after)
        assert len(lines(path)) == 1, after
        assert lines(path)[0]["cause"] == "remote_left"


# ------------------------------------------------------------------------------------------------ the file


def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """From now on the disk takes `room` bytes more."""
    write = os.write

    def takes(file: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, bytes(data)[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", takes)


def test_a_full_disk_keeps_records_waiting_and_tears_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "records.jsonl"
    done: list[int] = []

    async def main() -> None:
        file = RecordFile(path)
        file.write({"id": "1"}, partial(done.append, 1))
        await asyncio.sleep(1)
        with monkeypatch.context() as patched:
            full_disk(patched, 5)
            file.write({"id": "2"}, partial(done.append, 2))
            file.write({"id": "3"}, partial(done.append, 3))
            await asyncio.sleep(3 * RETRY_S)
            assert done == [1]
            assert lines(path) == [{"id": "1"}]
        await asyncio.sleep(RETRY_S)
        await file.close()
        assert (file.written, file.given_up) == (3, 0)

    run(main())
    assert done == [1, 2, 3]
    assert [each["id"] for each in lines(path)] == ["1", "2", "3"]
    assert [each.levelname for each in caplog.records] == ["ERROR", "WARNING"]


def test_too_many_that_wait_cost_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_records, "WAITING", 3)
    done: list[int] = []

    async def main() -> None:
        file = RecordFile(tmp_path / "records.jsonl")
        with monkeypatch.context() as patched:
            full_disk(patched, 0)
            for number in range(5):
                file.write({"id": str(number)}, partial(done.append, number))
            await asyncio.sleep(1)
        assert done == [0, 1]
        await asyncio.sleep(RETRY_S)
        assert file.given_up == 2

    run(main())
    assert [each["id"] for each in lines(tmp_path / "records.jsonl")] == ["2", "3", "4"]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    async def main() -> None:
        file = RecordFile(path)
        file.write({"id": "1"}, lambda: None)
        await asyncio.sleep(1)
        path.rename(tmp_path / "old.jsonl")
        file.write({"id": "2"}, lambda: None)
        await asyncio.sleep(1)

    run(main())
    assert [each["id"] for each in lines(path)] == ["2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": "1"}\n{"id": "2", "ca', "utf-8")

    async def main() -> None:
        file = RecordFile(path)
        assert file.known == {"1"}
        file.write({"id": "3"}, lambda: None)
        await asyncio.sleep(1)

    run(main())
    assert json.loads(path.read_text("utf-8").splitlines()[-1]) == {"id": "3"}


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_records, "TAIL", 30)
    path = tmp_path / "records.jsonl"
    path.write_text("".join(f'{{"id": "{number}"}}\n' for number in range(100)), "utf-8")
    assert RecordFile(path).known == {"98", "99"}


def test_a_folder_that_is_not_there_keeps_the_server_from_starting(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path, records={"file": tmp_path / "nowhere" / "records.jsonl"})
    with pytest.raises(ConfigError, match=r"records.file: there is no directory .*nowhere"):
        settings.check()


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordFile(tmp_path / "nowhere" / "records.jsonl")


def test_records_are_off_unless_asked_for(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer()
        (record,) = server.control.registry.calls.values()
        await server.hang_up(app)
        assert record.account is None
        assert RECORD not in record.undelivered

    in_memory(scenario)
