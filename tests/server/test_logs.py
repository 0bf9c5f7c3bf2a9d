"""Numbers are masked in what is logged, when that is asked; and in a whole call no line has one."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.telephone_scene import MOBILE, Scene, hold

from offhook.call.model import Shown
from offhook.server import logs
from offhook.server.config import Settings
from offhook.server.logs import redact

if TYPE_CHECKING:
    from tests.conftest import InMemory


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("cannot call 4:+15550123: no route", "cannot call 4:+******23: no route"),
        ("<sip:+15550123@192.0.2.1:5060;transport=tcp>", "<sip:+******23@192.0.2.1:5060;transport=tcp>"),
        ("SIPS:alice@example.org", "SIPS:***ce@example.org"),
        ("tel:5551234", "tel:*****34"),
        ("4:5551 was short", "4:**51 was short"),
        ("the number +4930123456", "the number +********56"),
        ('{"from":"4:+15550100"}', '{"from":"4:+******00"}'),
    ],
)
def test_numbers_are_masked_but_for_the_last_two_digits(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23 04:05:06,789 INFO offhook: took over 12 calls in 1234567890 s",
        "2026-11-23T04:05:06.789Z +0000 +00:00 14:4:22",
        "8:acs:11111111-2222-4333-8444-555555555555_1-a 4:anonymous sip:192.0.2.1:5060",
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    assert redact(text) == text


def test_users_of_phones_are_masked_as_words() -> None:
    assert redact("the phone desk is not registered, deskwork is", {"desk"}) == (
        "the phone **sk is not registered, deskwork is"
    )


@given(st.text(max_size=200), st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_no_number_gets_through(around: str, number: str) -> None:
    assert number not in redact(f"{around} {number} {around}")
    assert number not in redact(f"{around} 4:{number} {around}")


# ------------------------------------------------------------------------------------------------ a server's log


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the one handler of the root logger writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    return stream


def settings(tmp_path: Path, redacted: bool) -> Settings:
    phone = {"user": "desk", "password": "secret"}
    chosen = {"logs": {"redact_numbers": redacted}, "phone": [phone], "sip": {"port": 0}}
    return Settings(data_dir=tmp_path, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("redacted", [False, True])
def test_a_call_leaves_no_number_in_the_log(
    in_memory: InMemory, logged: io.StringIO, tmp_path: Path, redacted: bool
) -> None:
    logs.configure(settings(tmp_path, redacted))

    async def scenario(scene: Scene) -> None:
        await scene.created(MOBILE)
        scene.trunk.line.live.hang_up()
        # A phone that is known and cannot be called after all, and one that may not transfer: both are logged.
        with scene.server.control.exchange.steps.step():
            scene.telephones.call(scene.server.control.workers[0], "leg", "4:+25559999", Shown("4:+15550100"))
        await scene.server.settle(1)
        logging.getLogger("offhook").error("a fault", exc_info=ValueError("about 4:+15550123"))

    hold(in_memory, scenario)
    assert ("+2555" in logged.getvalue()) is not redacted
    assert "cannot call" in logged.getvalue()
    assert ("4:+******23" in logged.getvalue()) is redacted


def test_users_of_phones_are_no_more_in_the_log_than_numbers(logged: io.StringIO, tmp_path: Path) -> None:
    logs.configure(settings(tmp_path, True))
    logging.getLogger("offhook.server").info("%s may not transfer calls", "desk")
    assert "desk" not in logged.getvalue()
    assert "**sk may not transfer calls" in logged.getvalue()
