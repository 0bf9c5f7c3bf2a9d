"""PCM of any size in, one frame per tick out: what an app (or a caller's client) sent and nobody has heard yet."""

from __future__ import annotations

from collections import deque

from offhook.audio.pcm import FRAME_MS, as_samples, bytes_per_frame, silence
from offhook.audio.stretch import crossfade

BLOCK = 64 << 10  # bytes; pushes that are not of one frame are gathered into blocks of this size
PARTIAL_TICKS = 2  # ticks without new data after which a last partial frame is played

# Delay must not stick (docs/architecture.md).
LIVE_AFTER_S = 5.0  # at no more than real time for so long: a live stream
PACE = 1.05  # how much faster than real time is still real time: clocks differ
CREDIT_S = 0.25  # how far ahead a live stream may be at once: an app's own jitter
STALL_S = 0.22  # a longer gap between two pushes is a stall; what was missed may then come at once …
CATCH_UP_S = 1.0  # … within so long
PAUSE_S = 2.5  # a still longer gap is a pause: what comes next is a new utterance
PAUSE_TICKS = 11  # without a push: longer than the pieces of an app that paces itself
WINDOW_TICKS = 10  # the depth is judged by its lowest point within so many ticks
TOO_DEEP_MS = 60  # above what the stream had before
SKIP_AMONG = 500  # frames looked at in one go: what is skipped must not hold the tick
LATE_TICKS = TOO_DEEP_MS // FRAME_MS  # the longest silence that is put down to lateness
STANDING_WINDOWS = 10  # a surplus that was not needed in so many, 2 s, is taken out …
MOST_STANDING_WINDOWS = 160  # … later, up to 32 s, if it was needed again: twice as many each time


class Playout:
    """A bounded queue of PCM at `rate` Hz between arrivals of any size and a 20 ms tick.

    Full (`limit_ms`): what comes newest is refused and counted. An odd byte waits for its other half; both it and a
    partial frame survive until more comes, but a partial frame that is followed by nothing is padded and played.

    A *buffered* stream, one that runs ahead of real time, is played to the last sample. A *live* one, which for
    `LIVE_AFTER_S` has sent no more than real time, gets late when its app or the network stalls and then catches up in
    a burst: the backlog would stay for ever. So when the queue's lowest depth stands more than `TOO_DEEP_MS` above what
    it was before, whole frames are skipped, silent ones first, until it is back there. Less than that stays, too: a
    frame that comes a moment after its tick is played 20 ms late, and so are all that follow. Such a surplus is taken
    out when it was not needed for 2 s, a frame at a time: a silent one, or after 3 s one that fades into the next. If
    that was too early, and it runs dry again, the surplus stays twice as long from then on.
    """

    def __init__(self, rate: int, limit_ms: int = 600_000, live_trim: bool = True) -> None:
        self.rate = rate
        self.frame_bytes = bytes_per_frame(rate)
        self.limit_bytes = limit_ms * self.frame_bytes // FRAME_MS
        self.queued_bytes = 0  # complete samples that wait
        self._blocks: deque[bytes | bytearray] = deque()
        self._head = 0  # bytes of the first block that are played
        self._odd = b""
        self._idle_ticks = 0  # since the last push
        self._playing = False
        self._pace = _Pace(rate) if live_trim else None
        self._window = _Window()
        self.played_bytes = 0  # of what was pushed, without padding
        self.played_frames = 0
        self.padded_frames = 0
        self.underruns = 0  # times that the queue ran dry
        self.skipped_frames = 0
        self.refused_bytes = 0
        self.odd_bytes_dropped = 0

    @property
    def queued_ms(self) -> float:
        """What waits, in milliseconds of audio."""
        return self.queued_bytes * FRAME_MS / self.frame_bytes

    def push(self, pcm: bytes | memoryview, now: float) -> int:
        """Queue PCM that arrived at `now` (seconds); return how many of its bytes were taken."""
        size = len(pcm)
        if size == self.frame_bytes and not self._odd and self.queued_bytes + size <= self.limit_bytes:
            self._blocks.append(bytes(pcm))  # what live streams do all the time
            self.queued_bytes += size
            taken = size
        else:
            taken = self._push_any(pcm)
        if self._pace is not None:
            self._pace.arrived(taken, now)
        self._idle_ticks = 0
        return taken

    def _push_any(self, pcm: bytes | memoryview) -> int:
        size = len(pcm)
        if self._odd:
            pcm = self._odd + bytes(pcm)
        usable = len(pcm) & ~1
        room = self.limit_bytes - self.queued_bytes
        if usable > room:
            refused = len(pcm) - room
            self.refused_bytes += refused
            self._odd = b""
            self._append(memoryview(pcm)[:room])
            return max(0, size - refused)
        self._odd = bytes(pcm[usable:])
        self._append(memoryview(pcm)[:usable])
        return size

    def pull(self, now: float) -> bytes | None:
        """Return the frame of this tick, or None when there is nothing to play. Call it once a tick."""
        if self.queued_bytes >= self.frame_bytes:
            frame = self._take(self.frame_bytes)
            self.played_bytes += self.frame_bytes
            self._idle_ticks += 1
            self.played_frames += 1
            if not self._playing:
                self._playing = True
                self._window.fed()
            return frame if self._pace is None else self._watch_depth(self._pace, frame, now)
        self._window.interrupted()
        self._idle_ticks += 1
        if self.queued_bytes and self._idle_ticks > PARTIAL_TICKS:
            frame = self._take(self.queued_bytes)
            self._drop_odd()
            self.played_frames += 1
            self.played_bytes += len(frame)
            self.padded_frames += 1
            return frame + bytes(self.frame_bytes - len(frame))
        self._window.dry += 1
        if self._playing:
            self._playing = False
            self.underruns += 1
        return None

    def in_step(self, most: int) -> bytes | None:
        """Return what waits, after a tick that pushed a frame and pulled one; None when it was anything else, when more
        than `most` whole frames wait, or the next pull may take some of that out."""
        in_step = self._playing and self._idle_ticks == 1 and not self._odd
        in_step = in_step and self.queued_bytes < (most + 1) * self.frame_bytes
        if not in_step or self.steps == 0 or (self._pace is not None and self._pace.may_catch_up):
            return None
        return b"".join(self._blocks)[self._head :]

    @property
    def steps(self) -> int | None:
        """For how many ticks in step no pull takes anything out of what waits; None: for any number."""
        if self._pace is None or not self._window.late:
            return None
        return self._window.ticks_to_verdict - 1

    def stepped(self, ticks: int, now: float, waiting: bytes) -> None:
        """As if since `in_step` a frame had been pushed and pulled in each of so many ticks, the last one at `now`;
        now this waits, as much as then."""
        self.played_frames += ticks
        self.played_bytes += ticks * self.frame_bytes
        self._blocks, self._head = deque([waiting] if waiting else []), 0
        if self._pace is None:
            return
        self._pace.regular(ticks, now)
        window = self._window
        if not window.ticks:
            window.lowest = self.queued_bytes
        window.lowest = min(window.lowest, self.queued_bytes)
        ends, begun = divmod(window.ticks + ticks, WINDOW_TICKS)
        for _ in range(ends):
            self._window_ended(self._pace)
            window.lowest = self.queued_bytes
        window.ticks = begun

    def retimed(self) -> None:
        """The tick comes at another time from now on. If that has let a frame more wait, it is taken out like one that
        lateness has added."""
        self._window.late += 1

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and the last `pull` gave nothing."""
        return not (self._playing or self.queued_bytes or self._odd)

    def idled(self, ticks: int) -> None:
        """As if since then nothing had come, and so many pulls had given nothing."""
        self._idle_ticks += ticks
        self._window.dry += ticks

    def flush(self) -> int:
        """Discard all that waits (StopAudio); return how many bytes that was. The next `pull` gives None."""
        discarded = self.queued_bytes + len(self._odd)
        self._blocks.clear()
        self._head = 0
        self.queued_bytes = 0
        self._drop_odd()
        self._playing = False
        self._window.interrupted()
        return discarded

    def _append(self, pcm: memoryview) -> None:
        self.queued_bytes += len(pcm)
        last = self._blocks[-1] if self._blocks else b""
        if isinstance(last, bytearray) and len(last) + len(pcm) <= BLOCK:
            last += pcm
            return
        for start in range(0, len(pcm), BLOCK):
            self._blocks.append(bytearray(pcm[start : start + BLOCK]))

    def _take(self, count: int) -> bytes:
        """Remove and return the first `count` bytes, which must be there."""
        self.queued_bytes -= count
        first = self._blocks[0]
        end = self._head + count
        if end < len(first):
            taken = bytes(first[self._head : end])
            self._head = end
            return taken
        if not self._head and end == len(first):
            return bytes(self._blocks.popleft())
        parts = []
        while count:
            part = self._blocks[0][self._head : self._head + count]
            parts.append(part)
            count -= len(part)
            self._head += len(part)
            if self._head == len(self._blocks[0]):
                self._blocks.popleft()
                self._head = 0
        return b"".join(parts)

    def _drop_odd(self) -> None:
        self.odd_bytes_dropped += len(self._odd)
        self._odd = b""

    def _watch_depth(self, pace: _Pace, frame: bytes, now: float) -> bytes:
        """Has a live stream got deeper than it used to be? Asked at the end of each window; return what is played."""
        window = self._window
        if window.ticks == 0 or self.queued_bytes < window.lowest:
            window.lowest = self.queued_bytes
        window.ticks += 1
        if window.ticks < WINDOW_TICKS:
            return frame
        window.ticks = 0
        surplus = self._window_ended(pace)
        if not pace.is_live(now):
            return frame
        if surplus * FRAME_MS > TOO_DEEP_MS * self.frame_bytes:
            self._skip(surplus // self.frame_bytes)
            window.late = 0
        elif window.standing >= window.patience:
            return self._shorten(frame)
        return frame

    def _window_ended(self, pace: _Pace) -> int:
        """Return by how many bytes the queue was deeper than usual."""
        window = self._window
        if window.since != pace.start:  # It was still filling up: what it is usually, the next window says.
            window.begin(pace.start)
        elif self._idle_ticks > PAUSE_TICKS:  # The end of an utterance: it runs low because nothing comes.
            window.interrupted()
        else:
            return window.judge(self.frame_bytes)
        return 0

    def _shorten(self, frame: bytes) -> bytes:
        """Return what is played for `frame` and the next one together; only `frame` if it may be better to wait."""
        window = self._window
        silent = frame == silence(self.rate)
        if not silent and window.standing < 1.5 * window.patience:
            return frame
        following = self._take(self.frame_bytes)
        window.taken_out()
        self.skipped_frames += 1
        return following if silent else crossfade(as_samples(frame), as_samples(following)).tobytes()

    def _skip(self, count: int) -> None:
        """Remove `count` of the next `SKIP_AMONG` frames: digitally silent ones first, then the oldest."""
        size, silence = self.frame_bytes, bytes(self.frame_bytes)
        whole = min(self.queued_bytes // size, SKIP_AMONG)
        data = self._take(whole * size)
        frames = [data[at : at + size] for at in range(0, len(data), size)]
        silent_first = sorted(range(whole), key=lambda i: frames[i] != silence)
        skipped = set(silent_first[:count])
        kept = bytearray().join(frame for i, frame in enumerate(frames) if i not in skipped)
        if self._head:
            self._blocks[0] = self._blocks[0][self._head :]
            self._head = 0
        self._blocks.appendleft(kept)
        self.queued_bytes += len(kept)
        self.skipped_frames += len(skipped)


class _Window:
    """The lowest depth (bytes) after a pull within the last ticks, what it usually is, and what lateness has added.

    A window counts as usual only once another one has followed: the last ones of an utterance, which runs low at its
    end, do not, or its successor would look late.
    """

    def __init__(self) -> None:
        self.ticks = 0
        self.lowest = 0
        self.before: int | None = None  # the lowest of the window before this one
        self.usual: int | None = None
        self.since: float | None = None  # start of the utterance that `usual` belongs to
        self.dry = 0  # ticks since there was something to play
        self.late = 0  # frames by which lateness has made it deeper
        self.standing = 0  # windows in a row with a surplus that may be taken out …
        self.patience = STANDING_WINDOWS  # … once there are so many
        self._tried = False  # whether one was, and has not been missed so far

    def begin(self, since: float) -> None:
        """Another utterance began at `since`."""
        self.since, self.usual = since, None
        self.patience, self._tried = STANDING_WINDOWS, False
        self.interrupted()

    def interrupted(self) -> None:
        """The queue ran dry, was flushed, or is not fed: begin a new window, and forget the one before."""
        self.ticks = 0
        self.before = None
        self.standing = 0

    def fed(self) -> None:
        """There is something to play again: it was a moment late, or it comes after a pause."""
        if self.dry > LATE_TICKS:
            self.late = 0
        else:
            self.late += self.dry
            if self._tried:
                self.patience, self._tried = min(2 * self.patience, MOST_STANDING_WINDOWS), False
        self.dry = 0

    def taken_out(self) -> None:
        """A frame of the surplus was."""
        self.late -= 1
        self._tried = True

    @property
    def ticks_to_verdict(self) -> int:
        """How many ticks there are at least until the end of a window in which a surplus may be taken out."""
        return max(1, self.patience - self.standing) * WINDOW_TICKS - self.ticks

    def judge(self, frame_bytes: int) -> int:
        """A window has ended: return by how much it was deeper than usual."""
        if self.before is not None:
            natural = self.before - self.late * frame_bytes
            self.usual = max(0, natural) if self.usual is None else min(self.usual, self.before)
        self.before = self.lowest
        surplus = 0 if self.usual is None else self.lowest - self.usual
        self.standing = self.standing + 1 if self.late and surplus >= frame_bytes else 0
        return surplus


class _Pace:
    """Whether a stream comes at the pace of real time.

    Time passing earns credit, arriving audio spends it. Credit is small (`CREDIT_S`), but a stall earns all that was
    missed, for a moment: an app that stalls and catches up has not run ahead. One that overdraws has, and is not live
    again before `LIVE_AFTER_S` without doing so.
    """

    def __init__(self, rate: int) -> None:
        self._bytes_per_second = 2 * rate
        self.start = -1e9  # of the utterance, or of the time since it last ran ahead
        self._last = -1e9
        self._credit = CREDIT_S
        self._stalled = -1e9  # when the last stall ended
        self._catch_up_until = -1e9

    def arrived(self, size: int, now: float) -> None:
        gap, self._last = now - self._last, now
        if gap > PAUSE_S:
            self.start, self._credit = now, CREDIT_S
        else:
            self._credit += PACE * gap
        if STALL_S < gap <= PAUSE_S:
            if now - self._stalled < LIVE_AFTER_S:
                self.start = now  # This app always sends in large pieces: it is not live.
            self._stalled = now
            self._catch_up_until = now + CATCH_UP_S
        elif now > self._catch_up_until:
            self._credit = min(self._credit, CREDIT_S)
        self._credit -= size / self._bytes_per_second
        if self._credit < 0:
            self.start, self._credit = now, 0.0

    @property
    def may_catch_up(self) -> bool:
        """Whether there was a stall not long ago, when the last piece came."""
        return self._last <= self._catch_up_until

    def regular(self, ticks: int, now: float) -> None:
        """As `arrived`, with a frame in each of so many ticks, the last one at `now`."""
        frame_s = FRAME_MS / 1000
        self._credit = min(self._credit + ticks * (PACE - 1) * frame_s, CREDIT_S - frame_s)
        self._last = now

    def is_live(self, now: float) -> bool:
        return now - self.start >= LIVE_AFTER_S
