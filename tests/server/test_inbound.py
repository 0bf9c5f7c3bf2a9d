"""Each app is told of the calls to its own numbers, and of no others."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.telephone_scene import Scene

from offhook.legs.sip import events
from offhook.legs.sip.uri import Address, parse_uri
from offhook.server.config import ConfigError, Settings
from offhook.server.dialplan import endpoints_for

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

SALES, HELP, REST = "https://sales.example/in", "https://help.example/in", "https://rest.example/in"
TABLES: list[dict[str, Any]] = [
    {"numbers": ["+1 555 0199"], "endpoints": [SALES]},
    {"numbers": ["+1555*", "100"], "endpoints": [HELP]},
    {"numbers": ["+1900*"], "endpoints": []},
    {"numbers": ["+1555*"], "trunk": "t", "endpoints": [SALES, HELP]},
]


def plan(*tables: dict[str, Any], **given: Any) -> Any:
    return Settings(**{"inbound": tables, "incoming": [REST], **given}).inbound_plan()


@pytest.fixture(autouse=True)
def _own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFFHOOK_DATA_DIR", str(tmp_path))


# ------------------------------------------------------------------------------------------------ the plan


@pytest.mark.parametrize(
    ("to", "trunk", "told"),
    [
        ("4:+15550199", "", (SALES,)),
        ("4:+15550199", "t", (SALES,)),  # a whole number goes before a beginning, whatever the trunk
        ("4:+15550198", "", (HELP,)),
        ("4:+15550198", "t", (SALES, HELP)),
        ("4:+15550198", "other", (HELP,)),
        ("4:+19005550100", "", ()),
        ("4:+4930123456", "t", (REST,)),
        ("4:100", "", (HELP,)),
        ("4:1000", "", (REST,)),
        ("8:acs:somebody", "t", (REST,)),
        ("4:anonymous", "", (REST,)),
    ],
)
def test_the_most_specific_number_decides(to: str, trunk: str, told: tuple[str, ...]) -> None:
    assert endpoints_for(plan(*TABLES), to, trunk) == told


def test_without_incoming_the_rest_is_for_nobody() -> None:
    assert endpoints_for(plan(*TABLES, incoming=[]), "4:+4930123456", "") == ()


def test_national_numbers_are_those_of_the_region() -> None:
    german = plan({"numbers": ["0301234567"], "endpoints": [HELP]}, sip={"region": "DE"})
    assert endpoints_for(german, "4:+49301234567", "") == (HELP,)


@given(st.dictionaries(st.from_regex(r"\+?[0-9]{1,6}\*?|\*", fullmatch=True), st.just((HELP,))), st.text("+0123456789"))
def test_it_is_the_longest_of_those_that_fit(patterns: dict[str, tuple[str, ...]], number: str) -> None:
    inbound = {(pattern, ""): (pattern,) for pattern in patterns}
    fitting = [p for p in patterns if p == number or (p.endswith("*") and number.startswith(p[:-1]))]
    expected = max(fitting, key=lambda pattern: (pattern == number, len(pattern)), default=None)
    assert endpoints_for(inbound, f"4:{number}", "t") == (() if expected is None else (expected,))


# ------------------------------------------------------------------------------------------------ what may be said


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"numbers": ["+1555*0"], "endpoints": []}, "inbound.0.numbers.0: a number is one in E.164"),
        ({"numbers": ["desk"], "endpoints": []}, "inbound.0.numbers.0: a number is one in E.164"),
        ({"numbers": ["+999 12"], "endpoints": []}, "no telephone number"),
        ({"numbers": [], "endpoints": []}, "inbound.0.numbers"),
        ({"numbers": ["+15550199"]}, "inbound.0.endpoints: Field required"),
        ({"numbers": ["+15550199"], "endpoints": ["ftp://x"]}, "inbound.0.endpoints.0: not an http or https URL"),
        ({"numbers": ["+15550199"], "endpoint": REST, "endpoints": []}, "inbound.0.endpoint: there is no such setting"),
    ],
)
def test_what_makes_no_sense_is_said(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        Settings.load(inbound=[table])


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (
            [{"numbers": ["+15550199"], "endpoints": []}, {"numbers": ["+1 555 0199"], "endpoints": [REST]}],
            "inbound: +15550199 is there 2 times",
        ),
        (
            [{"numbers": ["+1*", "+1*"], "trunk": "t", "endpoints": []}],
            "inbound: +1* by trunk 't' is there 2 times",
        ),
        ([{"numbers": ["+1*"], "trunk": "u", "endpoints": []}], "inbound: for +1* there is no trunk 'u'"),
        ([{"numbers": ["*"], "endpoints": []}], "both incoming and *"),
    ],
)
def test_what_contradicts_itself_keeps_the_server_from_starting(tables: list[dict[str, Any]], problem: str) -> None:
    trunk = {"name": "t", "allow": ["192.0.2.1"]}
    settings = Settings.load(inbound=tables, incoming=[REST], trunk=[trunk], sip={"port": 0})
    with pytest.raises(ConfigError, match=re.escape(problem)):
        settings.check()


def test_the_same_number_may_be_there_by_each_trunk() -> None:
    trunks = [{"name": name, "allow": ["192.0.2.1"]} for name in "tu"]
    tables = [{"numbers": ["+1*"], "trunk": name, "endpoints": [REST]} for name in ("", "t", "u")]
    Settings.load(inbound=tables, trunk=trunks, sip={"port": 0}).check()


def test_what_the_documentation_shows_is_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    [shown] = re.findall(r"^```text\n(incoming = .*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "offhook.toml").write_text(shown)
    settings = Settings.load(tmp_path / "offhook.toml")
    settings.check()
    told = [endpoints_for(settings.inbound_plan(), f"4:{to}", "") for to in ("+49301234567", "100", "+49900", "+1")]
    assert [[url[17:21] for url in urls] for urls in told] == [["8001"], ["8002"], [], ["8000"]]


# ------------------------------------------------------------------------------------------------ calls


def told(server: MemoryServer) -> dict[str, list[str]]:
    """Which called numbers each endpoint was told of."""
    found: dict[str, list[str]] = {}
    for posted in server.posted:
        if posted.kind == "IncomingCall":
            found.setdefault(posted.url, []).append(posted.data["to"]["rawId"])
    return found


def test_two_apps_have_two_numbers_and_nobody_the_others(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        for to in ("+15550199", "+15550198", "+19005550100", "+4930123456"):
            party = await server.call(to)
            party.close()
            await server.settle()
        assert told(server) == {SALES: ["4:+15550199"], HELP: ["4:+15550198"]}

    in_memory(scenario, inbound=plan(*TABLES, incoming=[]))


def test_a_call_that_nobody_wants_is_unreachable(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        party = await server.call("+19005550100")
        assert party.reason == "unreachable"
        party.close()

    in_memory(scenario, inbound=plan(*TABLES))


def test_where_a_redirected_call_goes_is_decided_by_its_new_number(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        party = await server.call("+15550199")
        body = {"incomingCallContext": server.context, "target": {"rawId": "8:acs:somebody"}}
        assert (await server.rest("POST", "/calling/callConnections:redirect", body)).status == 204
        await server.settle()
        assert told(server) == {SALES: ["4:+15550199"], REST: ["8:acs:somebody"]}
        party.close()

    in_memory(scenario, inbound=plan(*TABLES))


def test_what_is_not_told_when_control_dies_goes_to_the_same_app_after(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        server.hung.add(SALES)
        party = await server.call("+15550199")
        server.kill()
        await server.settle(2)
        assert told(server) == {SALES: ["4:+15550199", "4:+15550199"]}
        party.close()
        await server.settle()

    in_memory(scenario, inbound=plan(*TABLES))


def hold(in_memory: InMemory, scenario: Callable[[Scene], Awaitable[None]], **plan_of: Any) -> None:
    async def main(server: MemoryServer) -> None:
        scene = Scene(server)
        await scene.start()
        await scenario(scene)
        await scene.close()

    in_memory(main, inbound=plan(*TABLES, **plan_of))


def test_telephones_reach_the_app_of_the_number_and_of_the_trunk(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        for phone in (scene.trunk, scene.desk):
            line = phone.call("+15550198")
            await scene.server.settle(0.5)
            line.live.hang_up()
            await scene.server.settle(0.5)
        urls = [posted.url for posted in scene.server.posted if posted.kind == "IncomingCall"]
        assert sorted(urls[:2]) == [HELP, SALES]  # by the trunk
        assert urls[2:] == [HELP]

    hold(in_memory, scenario)


@pytest.mark.parametrize(
    ("user", "to", "dialled"),
    [
        ("account", "+15550199", "4:+15550199"),  # where we have registered
        ("+15550199", "account", "4:+15550199"),
        ("+15550199", "+15550188", "4:+15550199"),  # forwarded on its way
        ("account", "", None),
    ],
)
def test_a_registrar_says_in_to_who_was_dialled(in_memory: InMemory, user: str, to: str, dialled: str | None) -> None:
    async def scenario(scene: Scene) -> None:
        session: Any = SimpleNamespace(
            trunk="t",
            request_uri=parse_uri(f"sip:{user}@192.0.2.1"),
            to=Address(parse_uri(f"sip:{to}@x.example" if to else "sip:x.example")),
        )
        book = scene.telephones.book
        assert book.dialled(session) == (dialled or scene.raw_id("account"))
        book.use((), (), ())
        assert book.dialled(session) == book.address(user)

    async def main(server: MemoryServer) -> None:
        await scenario(Scene(server, trunk={"register": "sip:192.0.2.2", "user": "account", "password": "secret"}))

    in_memory(main)


def test_a_telephone_that_calls_what_nobody_claims_is_answered_404(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+19005550100")
        await scene.server.settle(0.5)
        [end] = line.told(events.Ended)
        assert end.code == 404

    hold(in_memory, scenario)
