"""Which codec a call has is settled only by its answer, and may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.audio.libopus import needs_opus
from tests.server.telephone_scene import MOBILE, Scene, hold

from offhook.legs.sip import events

if TYPE_CHECKING:
    from tests.conftest import InMemory

pytestmark = needs_opus
EVERY = {"codecs": ["opus", "G722", "PCMU", "PCMA"]}


def test_a_telephone_that_answers_with_another_codec_than_the_first_is_heard_and_hears(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.created(MOBILE)  # the trunk speaks PCMU alone
        assert scene.trunk.line.incoming.offer is not None
        assert "m=audio" in scene.trunk.line.incoming.offer
        assert "opus/48000/2" in scene.trunk.line.incoming.offer
        await scene.server.settle(1)
        assert 500 in scene.app_hears()
        assert 700 in scene.trunk.line.hears()

    hold(in_memory, scenario, sip=EVERY)


def test_a_telephone_that_calls_has_the_codec_that_it_offers(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered()
        await scene.server.settle(1)
        assert 500 in scene.app_hears()
        assert 700 in line.hears()
        [answered] = line.told(events.Answered)
        assert "opus" not in answered.sdp

    hold(in_memory, scenario, sip=EVERY)
