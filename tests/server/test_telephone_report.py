"""What the server tells of its telephones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.telephone_scene import DESK, Scene, hold

from offhook.server.telephone_report import Talking, Telephones, _look

if TYPE_CHECKING:
    from tests.conftest import InMemory


def seen(scene: Scene) -> Telephones:
    return _look(scene.settings, scene.server.control, scene.stack)


def test_a_telephone_that_is_not_heard_is_told(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        assert seen(scene).talking == []
        line, _ = await scene.answered(scene.desk)
        (talking,) = seen(scene).talking
        assert talking == Talking(talking.call_id, "4:+15550101", f"{DESK} port 6002", True, True)
        assert talking.call_id in scene.server.control.registry.calls
        line.silent = True
        await scene.server.settle(30)
        assert [one.heard for one in seen(scene).talking] == [False]
        line.silent = False
        await scene.server.settle(10)
        assert [one.heard for one in seen(scene).talking] == [True]

    hold(in_memory, scenario)


def test_who_rings_is_not_in_a_call(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        assert seen(scene).talking == []

    hold(in_memory, scenario)


def test_a_server_without_telephones_has_no_ports(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        assert seen(scene).sip is not None
        told = _look(scene.settings, scene.server.control, None)
        assert (told.sip, told.sips, told.registrations) == (None, None, [])

    hold(in_memory, scenario)
