"""Every codec that can be configured can be spoken, or says why not."""

from __future__ import annotations

import pytest
from tests.audio.libopus import EVERY_CODEC, needs_opus

from offhook.audio import opus, pcm
from offhook.audio.decoding import UNITS_PER_S
from offhook.legs import codecs


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("name", EVERY_CODEC)
def test_a_coding_agrees_with_itself(name: str, rate: int) -> None:
    coding = codecs.coding(name, rate)
    assert coding.name == name
    assert coding.rate == coding.decoder.wide * UNITS_PER_S
    assert coding.rate == (rate if coding.adapts else 16_000 if name == "G722" else 8000)
    assert (coding.encode is None) is (coding.batched is not None) is (not coding.decoder.stateful)
    if coding.encode is not None:
        payload = coding.encode(pcm.silence(coding.rate))
        assert coding.decoder.duration(payload) == 160
        assert len(coding.decoder.open(payload)) == pcm.bytes_per_frame(coding.rate)


@needs_opus
def test_two_legs_of_a_codec_that_remembers_have_one_each() -> None:
    for name in ("G722", "opus"):
        assert codecs.coding(name, 16_000).decoder is not codecs.coding(name, 16_000).decoder


@needs_opus
def test_what_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [codecs.missing(name) for name in codecs.NAMES] == ["", "", "", ""]
    with pytest.raises(ValueError, match="codec 'G729': there are PCMU, PCMA, G722, opus"):
        codecs.coding("G729", 16_000)
    monkeypatch.setattr(opus, "missing", lambda: "no library")
    with pytest.raises(ValueError, match="codec opus: no library"):
        codecs.coding("opus", 16_000)
