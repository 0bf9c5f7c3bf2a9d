"""What a jitter buffer plays where it has no real sound: a loss is concealed, a silence is comfort noise."""

from __future__ import annotations

from offhook.audio.arrivals import Counts
from offhook.audio.conceal import HISTORY, LASTS, Excerpt
from offhook.audio.decoding import UNITS_PER_MS, Decoder, Filling
from offhook.audio.stretch import crossfade

SEAM = 16  # units from made-up to real sound, 2 ms


class StandIn:
    """Stands in from the first hole until real sound goes on. Lines are the decoder's, counts are in its units."""

    def __init__(self, decoder: Decoder, counts: Counts) -> None:
        self.filling: Filling | None = None  # what is played now; None while real sound is
        self.noise: int | None = None  # -dBov: the sender has said that it falls silent
        self._decoder = decoder
        self._counts = counts
        self._used = 0  # units of what is played
        self._announced = False  # the silence was, and nothing has been played of it yet
        self._noisy = False  # it is noise …
        self._brief = False  # … or only fit for a seam

    @property
    def goes_on(self) -> bool:
        """Whether there is more to `take` of what was begun."""
        return self.filling is not None and not self._announced and not self._brief

    @property
    def faded(self) -> bool:
        """Whether nothing can be heard of it any more, and no noise is to be."""
        return self.filling is not None and self.noise is None and self._used >= LASTS

    def announce(self, noise: int | None) -> None:
        """The sender falls silent (-dBov), or speaks again (None)."""
        self.noise = noise
        self._announced = noise is not None

    def begin(self, past: bytes) -> None:
        """Make up how it goes on from `past`, a line."""
        past = past[-HISTORY * self._decoder.unit_bytes :]
        self.filling = self._decoder.filling(self._decoder.samples(past), self.noise)
        self._used = 0
        self._announced, self._noisy, self._brief = False, self.noise is not None, False

    def begin_with(self, line: bytes) -> None:
        """Play this line, just long enough to lead from it into what comes instead. That costs next to nothing."""
        self.filling = Excerpt(self._decoder.samples(line), self._decoder.wide)
        self._used, self._brief = 0, True

    def take(self, units: int) -> bytes:
        """Return and count the next `units` of it."""
        assert self.filling is not None
        if self._noisy:
            self._counts.noise_ms += units / UNITS_PER_MS
        else:
            audible = max(min(units, LASTS - self._used), 0)
            self._counts.concealed_ms += audible / UNITS_PER_MS
            self._counts.silent_ms += (units - audible) / UNITS_PER_MS
        if self.noise is None:
            self._used += units
        return self._decoder.line(self.filling.take(units))

    def lead_into(self, real: bytes) -> bytes:
        """Real sound goes on: return it with a seam at its begin."""
        assert self.filling is not None
        unit = self._decoder.unit_bytes
        seam = min(SEAM, len(real) // unit)
        new = self._decoder.samples(real[: seam * unit])
        joined = self._decoder.line(crossfade(self.filling.take(seam), new)) + real[seam * unit :]
        self.filling = None
        return joined
