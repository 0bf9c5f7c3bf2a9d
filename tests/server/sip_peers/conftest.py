"""Real telephones against a whole server and its app, all tests of a file with the same one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.legs.sip_peers.programs import program
from tests.server.sip_peers.house import House
from tests.server.sip_peers.traffic import Sipp, traffic


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def running_house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    if sys.platform != "linux":
        pytest.skip("every peer has a loopback address of its own, which only Linux has")
    async with House(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def house(running_house: House) -> House:
    running_house.forget()
    return running_house


@pytest.fixture(scope="session")
def sipp_path() -> str:
    return program("sipp", "sip-tester")


@pytest.fixture(scope="session")
def baresip_path() -> str:
    return program("baresip", "baresip-core")


@pytest.fixture(scope="session")
def kamailio_path() -> str:
    return program("kamailio", "kamailio")


@pytest.fixture
def sipp(house: House, sipp_path: str, tmp_path: Path) -> Sipp:
    return traffic(house, sipp_path, tmp_path)
