"""Audio quality in figures, on virtual time: `python -m offhook.bench.quality` writes docs/audio-quality.md.

Everything is deterministic: the same tones, the same speech, the same losses each time. Concealment needs the speech
extra and the `pesq` package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offhook.audio import pcm
from offhook.audio.g711 import OCTETS_PER_FRAME as FRAME
from offhook.audio.g711 import PCMU
from offhook.audio.jitter import TICK_S, TOLERANCE, JitterBuffer
from offhook.audio.pcm import Samples
from offhook.audio.resample import resampler
from offhook.testing.speech import speak

PAGE = Path("docs/audio-quality.md")
RATES = (8000, 16_000, 24_000, 48_000)
LOSS = (0.01, 0.05, 0.10)
PITCHES = (1.0, 0.8)  # of the voices, of the packaged one's
SEEDS = 6  # loss patterns for each voice, kind and rate of loss
BURST_PACKETS = (3, 10)  # 60 to 200 ms
SILENCE = bytes([PCMU.silence]) * FRAME

_SPOKEN = (
    "I would like to book an appointment for Tuesday at half past nine, please. "
    "The quick brown fox jumps over the lazy dog, and then it runs away into the forest. "
    "Your order has been shipped and should arrive within three working days. "
    "She sells sea shells by the sea shore while the weather is fine."
)
_TONE_S = 0.6
_TONE_DBFS = -6.0

Lost = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------------------ tables


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ------------------------------------------------------------------------------------------------ resampler


def resampled(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Convert frame by frame, as the media plane does."""
    converter = resampler(rate_in, rate_out)
    history = converter.history(1)
    return np.concatenate(
        [converter.process(frame, history)[0] for frame in samples.reshape(-1, 1, converter.samples_in)]
    )


def gain(hz: float, heard_hz: float, rate_in: int, rate_out: int) -> float:
    """Return how loud `heard_hz` is behind the resampler, in dB, when a tone of `hz` goes in."""
    heard = resampled(pcm.tone(hz, rate_in, _TONE_S, _TONE_DBFS), rate_in, rate_out)[rate_out // 10 :]
    return pcm.tone_level(heard, heard_hz, rate_out) - _TONE_DBFS


def folded(hz: float, rate: int) -> float:
    """Return where a tone of `hz` appears at a sample rate that cannot carry it."""
    return abs(hz - rate * round(hz / rate))


def worst_outside(rate_in: int, rate_out: int) -> float:
    """Return the loudest alias or image of any tone, in dB, from 0.575 of the lower rate on (4600 Hz at 8 kHz)."""
    low = min(rate_in, rate_out)
    outside = [share * low for share in (0.575, 0.6, 0.65, 0.7, 0.8, 0.9, 0.975)]
    if rate_out < rate_in:
        return max(gain(hz, folded(hz, rate_out), rate_in, rate_out) for hz in outside if hz < rate_in / 2)
    return max(gain(low - hz, hz, rate_in, rate_out) for hz in outside if hz < rate_out / 2)


def snr(samples: Samples, hz: float, rate: int) -> float:
    """Return the dB between the sine of `hz` in `samples` and all else that is in there."""
    angle = 2 * np.pi * hz / rate * np.arange(len(samples))
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    parts = np.linalg.lstsq(waves, samples.astype(np.float64), rcond=None)[0]
    noise = samples - waves @ parts
    return float(10 * np.log10((waves @ parts).var() / noise.var()))


def resampling() -> str:
    """Table: every pair of rates."""
    rows = []
    for rate_in in RATES:
        for rate_out in RATES:
            if rate_in == rate_out:
                continue
            low = min(rate_in, rate_out)
            inside = [share * low for share in (0.0125, 0.0375, 0.125, 0.25, 0.35, 0.4)]
            ripple = max(abs(gain(hz, hz, rate_in, rate_out)) for hz in inside)
            tone = resampled(pcm.tone(1003, rate_in, _TONE_S, _TONE_DBFS), rate_in, rate_out)[rate_out // 10 :]
            rows.append(
                [
                    f"{rate_in // 1000} → {rate_out // 1000}",
                    f"{ripple:.3f}",
                    f"{gain(0.425 * low, 0.425 * low, rate_in, rate_out):.2f}",
                    f"{worst_outside(rate_in, rate_out):.0f}",
                    f"{snr(tone, 1003, rate_out):.0f}",
                    f"{resampler(rate_in, rate_out).delay_ms:.1f}",
                ]
            )
    headings = ["kHz", "ripple to 0.4, dB", "at 0.425, dB", "aliases and images, dB", "SNR, dB", "delay, ms"]
    return table(headings, rows)


# ------------------------------------------------------------------------------------------------ codec


def round_trip() -> str:
    """Table: tones through μ-law, and through μ-law → 24 kHz → μ-law."""
    rows = []
    delay = round(8 * (resampler(8000, 24_000).delay_ms + resampler(24_000, 8000).delay_ms))
    for hz in (300, 1004, 3000, 3400):
        octets = PCMU.encode(pcm.tone(hz, 8000, 2.0, -10))
        once = PCMU.decode(octets)
        returned = PCMU.encode(resampled(resampled(once, 8000, 24_000), 24_000, 8000))
        same = np.mean(returned[delay + 400 :] == octets[400 : len(octets) - delay])
        twice = PCMU.decode(returned)[delay + 400 :]
        rows.append([f"{hz}", f"{snr(once, hz, 8000):.1f}", f"{snr(twice, hz, 8000):.1f}", f"{100 * same:.1f}"])
    return table(["tone, Hz", "μ-law, SNR dB", "and 24 kHz and back, SNR dB", "octets that return unchanged, %"], rows)


# ------------------------------------------------------------------------------------------------ the network


@dataclass
class Heard:
    """What came out of a jitter buffer: octets with silence for None, delay after each tick, ticks without a frame."""

    buffer: JitterBuffer
    octets: bytes
    delays: list[float]
    silent: int


def through(octets: bytes, arrival: Callable[[int], float | None], ticks: int) -> Heard:
    """Send `octets`, repeated as needed, in packets of 20 ms through a jitter buffer.

    `arrival(i)` is when packet i arrives, in ticks, in order; None if it is lost. It is sent at tick i.
    """
    buffer = JitterBuffer(PCMU)
    packets = [octets[at : at + FRAME] for at in range(0, len(octets), FRAME)]
    frames, delays, index, silent = [], [], 0, 0
    at = arrival(0)
    for tick in range(ticks):
        while at is None or at <= tick:
            if at is not None:
                buffer.put(index & 0xFFFF, index * FRAME, packets[index % len(packets)], tick * TICK_S)
            index += 1
            at = arrival(index)
        frame = buffer.pull()
        silent += frame is None
        frames.append(frame or SILENCE)
        delays.append(buffer.delay_ms)
    return Heard(buffer, b"".join(frames), delays, silent)


def speech(pitch: float) -> Samples:
    """Return what is spoken, at 8 kHz, in whole frames: the packaged voice at `pitch` times its pitch, and pace."""
    samples = speak(_SPOKEN, round(8000 / pitch))
    return samples[: len(samples) // FRAME * FRAME]


def vowel() -> bytes:
    """Return the μ-law octets of ten seconds of a vowel of 125 Hz with some breath, for what needs no speech."""
    at = np.arange(80_000) / 8000
    sound = sum(np.sin(2 * np.pi * 125 * n * at + n * n) / n for n in range(1, 12))
    breath = np.random.default_rng(5).normal(0, 0.05, len(at))
    return PCMU.encode(np.rint(3000 * (sound + breath)).astype(np.int16)).tobytes()


def stalls() -> str:
    """Table: the network delivers nothing for a while, and then all of it at once."""
    rows = []
    for stall_ms in (60, 200, 400, 2000):
        begin, end = 500, 500 + stall_ms / 20

        def arrival(index: int, begin: int = begin, end: float = end) -> float:
            return max(index, end) if index >= begin else index

        heard = through(vowel(), arrival, 1000)
        after = heard.delays[int(end) :]
        back = next(tick for tick in range(len(after)) if max(after[tick:]) <= TOLERANCE / 8)
        counts = heard.buffer.counts
        rows.append(
            [
                f"{stall_ms}",
                f"{counts.concealed_ms:.0f}",
                f"{counts.silent_ms:.0f}",
                f"{counts.dropped_ms:.0f}",
                f"{counts.shortened_ms:.0f}",
                f"{back * TICK_S:.2f}",
            ]
        )
    return table(
        ["stall, ms", "made up, ms", "silent, ms", "dropped, ms", "left out in pieces, ms", "delay is back after, s"],
        rows,
    )


def drift() -> str:
    """Table: an hour of a sender whose clock is off."""
    rows = []
    for ppm in (-200, 0, 200):
        heard = through(vowel(), lambda index, ppm=ppm: index * (1 - ppm * 1e-6), 180_000)  # type: ignore[misc]
        counts = heard.buffer.counts
        rows.append(
            [
                f"{ppm:+d}" if ppm else "0",
                f"{len(heard.octets) // FRAME}",
                f"{heard.silent}",
                f"{max(heard.delays):.0f}",
                f"{counts.late + counts.lost}",
                f"{counts.shortened_ms:.0f}",
                f"{counts.concealed_ms:.0f}",
            ]
        )
    return table(
        ["ppm", "frames", "without sound", "most delay, ms", "packets lost or late", "left out, ms", "made up, ms"],
        rows,
    )


# ------------------------------------------------------------------------------------------------ concealment


def random_loss(share: float, count: int, seed: int) -> Lost:
    return np.random.default_rng(seed).random(count) < share


def bursty_loss(share: float, count: int, seed: int) -> Lost:
    """Bursts of `BURST_PACKETS`, all lengths alike, with gaps that make the average `share`."""
    random = np.random.default_rng(seed)
    lost = np.zeros(count, np.bool_)
    mean = sum(BURST_PACKETS) / 2
    at = 0
    while True:
        at += max(1, round(random.exponential(mean * (1 - share) / share)))
        if at >= count:
            return lost
        length = int(random.integers(BURST_PACKETS[0], BURST_PACKETS[1] + 1))
        lost[at : at + length] = True
        at += length


@dataclass(frozen=True)
class Score:
    """PESQ (MOS-LQO, narrow band), the mean over voices and patterns, of concealment and of silence in its place."""

    pattern: str
    share: float
    concealed: float
    silenced: float


def pesq_of(spoken: Samples, heard: bytes) -> float:
    """Return the score of octets against what was spoken; raises ImportError without the `pesq` package."""
    from pesq import pesq

    return float(pesq(8000, spoken, PCMU.decode(np.frombuffer(heard, np.uint8)), "nb"))


def scores(seeds: int = SEEDS) -> list[Score]:
    """Measure concealment, first without loss, then for every pattern and rate."""
    voices = [speech(pitch) for pitch in PITCHES]
    whole = [_compared(spoken, np.zeros(len(spoken) // FRAME, np.bool_)) for spoken in voices]
    found = [_score("none", 0.0, whole)]
    for name, pattern in (("random", random_loss), ("bursts", bursty_loss)):
        for share in LOSS:
            losses = [
                (spoken, pattern(share, len(spoken) // FRAME, seed)) for spoken in voices for seed in range(seeds)
            ]
            found.append(_score(name, share, [_compared(spoken, lost) for spoken, lost in losses]))
    return found


def _score(pattern: str, share: float, pairs: list[tuple[float, float]]) -> Score:
    concealed, silenced = np.mean(pairs, axis=0)
    return Score(pattern, share, float(concealed), float(silenced))


def _compared(spoken: Samples, lost: Lost) -> tuple[float, float]:
    """Return the scores of concealment and of silence for the same losses."""
    octets = PCMU.encode(spoken).tobytes()
    count = len(lost)
    heard = through(octets, lambda index: None if index < count and lost[index] else index, count)
    frames = [SILENCE if lost[at] else octets[at * FRAME : (at + 1) * FRAME] for at in range(count)]
    return pesq_of(spoken, heard.octets), pesq_of(spoken, b"".join(frames))


def concealment(found: Iterable[Score]) -> str:
    """Table of scores."""
    rows = [
        [
            one.pattern,
            f"{100 * one.share:.0f}",
            f"{one.concealed:.2f}",
            f"{one.silenced:.2f}",
            f"{one.concealed - one.silenced:+.2f}",
        ]
        for one in found
    ]
    return table(["loss", "%", "PESQ, concealed", "PESQ, silence inserted", "gain"], rows)


# ------------------------------------------------------------------------------------------------ the page


def page(found: Iterable[Score]) -> str:
    """Return docs/audio-quality.md."""
    return _PAGE.format(
        resampling=resampling(),
        round_trip=round_trip(),
        concealment=concealment(found),
        stalls=stalls(),
        drift=drift(),
        seeds=SEEDS,
    )


_PAGE = """\
# Audio quality

Figures of the parts that touch the sound: resampler, codec, jitter buffer, loss concealment. This page is written by
`python -m offhook.bench.quality` from the code that carries calls; no network, no clock, the same figures every time.
A test measures the cheap tables again and compares, and the expensive one by its order and least values.

## Resampler

Tones of −6 dBFS, converted frame by frame as in a call. Frequencies are parts of the lower of the two rates: at 8 kHz,
0.4 is 3200 Hz and 0.425 is 3400 Hz, where telephone speech ends. *Aliases and images*: the loudest trace of anything
that the lower rate cannot carry, from 0.575 (4600 Hz) on. *SNR*: of a tone of 1003 Hz.

{resampling}
The step from 16 bits to 16 bits limits the SNR. Why the filter is our own: [ADR 0005](adr/0005-own-resampler.md).

## μ-law → 24 kHz → μ-law

What an app on 24 kHz that echoes its caller gives back: decoded, resampled up and down, encoded again. Tones of
−10 dBFS. The codec's own limit is the second column.

{round_trip}
Up and down again puts each sample back in its place, so most octets come back as they were. At 3400 Hz the filters take
0.16 dB, which moves one octet in five to its neighbour; below that the codec is the limit, not the resampler.

## Loss

About twenty seconds of speech by each of two voices, made offline by the speech extra, in 20 ms packets of μ-law
through the jitter buffer, which holds nothing back here. PESQ (ITU-T P.862, MOS-LQO, narrow band, by the `pesq`
package) compares it with the speech before it was encoded; 4.55 is the best there is. Every figure is the mean of two
voices and {seeds} loss patterns. Bursts are 60 to 200 ms long.

{concealment}
*Silence inserted* is what a receiver without concealment plays. There are no holes in the stream in either case: a call
has 50 frames a second, always. What is lost is made up for 100 ms and then silent, until the next packet comes.

PESQ has been made for natural voices and judges a synthetic one a little differently; the differences between the
columns mean more than their values. Speech is too short for a precise figure at 1 % of bursts: there are one or two in
a recording.

### Beside G.711 Appendix I

| | G.711 Appendix I | Offhook |
| --- | --- | --- |
| Method | repeats the last pitch periods | the same |
| Period looked for | 40 to 120 samples | the same |
| Compared | the last 20 ms | the last 10 ms |
| Delay added without loss | 30 samples, 3.75 ms | none |
| Level | full for 10 ms, nothing after 60 ms | full for 10 ms, nothing after 100 ms |
| After 10 ms | several periods in turn | still the last one |
| Back to real sound | overlap | overlap, 2 ms |

The left column is as [an article of Dr. Dobb's][1] describes the recommendation; Offhook's values were chosen by the
scores of such speech. We found no published scores of Appendix I for losses and packets like these, and have not run
its program, so there is no column for it in the table above: the methods are alike; how the scores compare is open.

[1]: https://www.drdobbs.com/error-resilient-coding-for-audio-communi/207801324?pgno=3

## Stalls

A vowel of 125 Hz, 10 s into a call; the network stalls and then delivers everything at once. The buffer holds 400 ms at
most. What it holds too much is left out in pieces of 2.5 to 15 ms, a period of the voice at a time, or silence. *Back*:
within 5 ms of the delay before, which was 0.

{stalls}
## Drift

An hour of a sender whose clock is slower or faster than ours. *Most delay* is what the jitter buffer adds at worst.

{drift}
A fast sender has a packet too many every 100 s (at 200 ppm); it is left out by periods. A slow one has one too few: a
frame is made up of periods of the voice, as for a loss, but nothing of the speech is missing.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(scores()), "utf-8")


if __name__ == "__main__":
    main()
