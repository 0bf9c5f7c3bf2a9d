"""What is played where there is no real sound, and what is counted of it."""

from __future__ import annotations

import numpy as np

from offhook.audio.arrivals import Counts
from offhook.audio.conceal import LASTS
from offhook.audio.g711 import PCMU
from offhook.audio.stand_in import SEAM, StandIn

HUM = PCMU.line(np.rint(8000 * np.sin(np.arange(400) * 2 * np.pi * 100 / 8000)).astype(np.int16))
SILENCE = PCMU.line(np.zeros(160, np.int16))


def level(line: bytes) -> float:
    return float(np.abs(PCMU.samples(line).astype(float)).max())


def test_a_loss_goes_on_fades_and_is_counted() -> None:
    counts = Counts()
    stand_in = StandIn(PCMU, counts)
    assert not stand_in.goes_on
    stand_in.begin(HUM)
    heard = [stand_in.take(160) for _ in range(LASTS // 160)]
    assert stand_in.faded
    assert level(heard[0]) > 6000 > 2000 > level(heard[-1]) > 0
    assert stand_in.take(160) == SILENCE
    assert (counts.concealed_ms, counts.silent_ms, counts.noise_ms) == (100, 20, 0)


def test_a_silence_is_noise_that_does_not_fade() -> None:
    counts = Counts()
    stand_in = StandIn(PCMU, counts)
    stand_in.announce(40)
    stand_in.begin(HUM)
    heard = [stand_in.take(160) for _ in range(20)]
    assert 0 < level(heard[-1]) < 2000
    assert not stand_in.faded
    assert (counts.concealed_ms, counts.silent_ms, counts.noise_ms) == (0, 0, 400)


def test_a_silence_that_is_announced_in_a_loss_is_begun() -> None:
    stand_in = StandIn(PCMU, Counts())
    stand_in.begin(HUM)
    stand_in.announce(40)
    assert not stand_in.goes_on
    stand_in.begin(HUM)
    assert stand_in.goes_on


def test_what_is_broken_off_is_only_long_enough_to_lead_on() -> None:
    stand_in = StandIn(PCMU, Counts())
    stand_in.begin_with(HUM[:SEAM])
    assert not stand_in.goes_on
    joined = stand_in.lead_into(SILENCE)
    assert level(joined[:SEAM]) > 0
    assert joined[SEAM:] == SILENCE[SEAM:]
    assert stand_in.filling is None
