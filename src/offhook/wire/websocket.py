"""A client's WebSocket messages as octets (RFC 6455 5.2): masked, each in one frame of the protocol.

`AudioMessages` makes those of a whole slot at once: their texts stand in one matrix, a line each, so that filling in
time stamp, audio and mask is a handful of numpy calls however many lines there are. Mask keys are the caller's to
draw; they must be unpredictable (RFC 6455 10.3). `AudioTexts` is its counterpart: it reads what apps send, if that is
alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pybase64

from offhook.wire import streaming

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
KEY = 4  # octets of a mask key
_FIN, _MASKED, _16_BITS, _64_BITS = 0x80, 0x80, 126, 127
_HEADER = 8  # octets before a masked payload of 126 to 65535 octets

Octets = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.int16]


def masked(kind: int, payload: bytes, key: bytes) -> bytes:
    """Return a whole message of `kind`, masked with `key` (`KEY` octets)."""
    size = len(payload)
    if size < _16_BITS:
        head = bytes((_FIN | kind, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_FIN | kind, _MASKED | _16_BITS)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | kind, _MASKED | _64_BITS)) + size.to_bytes(8, "big")
    return head + key + _xor(payload, key)


def payload_of(message: bytes | memoryview) -> bytes:
    """Return what a message that `masked` or `AudioMessages` made says; for apps in memory, and tests."""
    size = message[1] & 0x7F
    start = 2 + {_16_BITS: 2, _64_BITS: 8}.get(size, 0)
    return _xor(bytes(message[start + KEY :]), bytes(message[start : start + KEY]))


def _xor(data: bytes, key: bytes) -> bytes:
    repeated = np.resize(np.frombuffer(key, np.uint8), len(data))
    return (np.frombuffer(data, np.uint8) ^ repeated).tobytes()


class AudioMessages:
    """Makes AudioData messages, one for each of `parties`: raw ids as long as each other in JSON, or all None (mixed).

    `size` is the PCM of one message in bytes. What `make` returns is overwritten by the next `make`.
    """

    def __init__(self, parties: Sequence[str | None], size: int) -> None:
        envelope_of = {party: streaming.AudioEnvelope(party) for party in parties}
        some = envelope_of[parties[0]]
        # base64 turns 3 bytes into 4 characters: rows padded to a multiple of 3 are encoded in one call.
        self._padding = -size % 3
        text = 4 * (size + self._padding) // 3
        stamp_at = len(some.head)
        middle_at = stamp_at + streaming.TIMESTAMP
        text_at = middle_at + len(some.middle)
        tail_at = text_at + text
        sizes = [tail_at + len(tail) for tail in streaming.TAIL]
        width = max(sizes)

        lines = np.zeros((len(parties), -(-width // KEY) * KEY), np.uint8)
        lines[:, :stamp_at] = _octets(some.head)
        lines[:, middle_at:text_at] = _octets(some.middle)
        if len(envelope_of) > 1:
            for line, party in zip(lines, parties, strict=True):
                line[middle_at:text_at] = _octets(envelope_of[party].middle)
        self._stamps = lines[:, stamp_at:middle_at]
        self._texts = lines[:, text_at:tail_at]
        self._tail = lines[:, tail_at:width]
        self._tails = np.array([_octets(tail.ljust(width - tail_at)) for tail in streaming.TAIL])
        self._plain = lines.view(np.uint32)

        messages = np.zeros((len(parties), _HEADER + lines.shape[1]), np.uint8)
        messages[:, :2] = (_FIN | TEXT, _MASKED | _16_BITS)
        self._sizes_out = messages[:, 2:KEY]
        self._sizes = np.array([_octets(size.to_bytes(2, "big")) for size in sizes])
        self._keys_out = messages[:, KEY:_HEADER]
        self._masked = messages[:, _HEADER:].view(np.uint32)
        flat, step = messages.reshape(-1).data, messages.shape[1]
        self._lines = len(parties)
        self._views = [[flat[at : at + _HEADER + size] for at in range(0, len(flat), step)] for size in sizes]
        self._silent: npt.NDArray[np.bool_] | None = None  # whose messages say so, as they stand
        self._messages = self._views[False]

    def make(self, pcm: Samples, stamp: bytes, silent: npt.NDArray[np.bool_], keys: bytes) -> list[memoryview]:
        """Return the messages: a line of `pcm`, and a flag of `silent`, for each; `keys` has `KEY` octets each."""
        self._stamps[:] = _octets(stamp)
        self._texts[:] = self._base64(pcm)
        if self._silent is None or (silent != self._silent).any():
            self._say(silent)
        masks = np.frombuffer(keys, np.uint8).reshape(self._lines, KEY)
        self._keys_out[:] = masks
        np.bitwise_xor(self._plain, masks.view(np.uint32), out=self._masked)
        return self._messages

    def _say(self, silent: npt.NDArray[np.bool_]) -> None:
        """Say who is silent, in these messages and the next ones."""
        self._silent = silent
        which = silent.astype(np.intp)
        self._tail[:] = self._tails[which]
        self._sizes_out[:] = self._sizes[which]
        self._messages = [self._views[says][line] for line, says in enumerate(which.tolist())]

    def _base64(self, pcm: Samples) -> Octets:
        if not self._padding:
            return _octets(pybase64.b64encode(pcm.data)).reshape(self._lines, -1)
        padded = np.zeros((self._lines, 2 * pcm.shape[1] + self._padding), np.uint8)
        padded[:, : -self._padding] = pcm.view(np.uint8)
        texts = _octets(pybase64.b64encode(padded.data)).reshape(self._lines, -1).copy()
        texts[:, -self._padding :] = ord("=")
        return texts


class AudioTexts:
    """Reads messages of apps that are alike: `size_of_pcm` bytes of audio in base64, between `head` and `tail`.

    Such a message is one unmasked text frame of `size` octets; lines that hold one may be longer.
    """

    def __init__(self, head: bytes, tail: bytes, size_of_pcm: int) -> None:
        """Raises `ValueError` for messages that are no frame of 126 to 65535 octets."""
        # base64 turns 3 bytes into 4 characters; where "=" makes them up, zeros do as well.
        self._padding = -size_of_pcm % 3
        text = 4 * (size_of_pcm + self._padding) // 3
        length = len(head) + text + len(tail)
        if not _16_BITS <= length < 1 << 16:
            raise ValueError(f"a message of {length} octets")
        start = bytes((_FIN | TEXT, _16_BITS)) + length.to_bytes(2, "big") + head
        end = b"=" * self._padding + tail
        self._pcm = size_of_pcm
        self._text = slice(len(start), len(start) + text)
        self._head, self._end = start, end
        self._end_at = slice(self._text.stop - self._padding, self._text.stop + len(tail))
        self.size = len(start) + text + len(tail)

    def alike(self, lines: Octets) -> npt.NDArray[np.bool_]:
        """Return which of `lines`, messages of `size`, have this head and tail."""
        heads, ends = lines[:, : len(self._head)], lines[:, self._end_at]
        if heads.tobytes() == len(lines) * self._head and ends.tobytes() == len(lines) * self._end:
            return np.ones(len(lines), bool)
        return np.asarray((heads == _octets(self._head)).all(axis=1) & (ends == _octets(self._end)).all(axis=1))

    def audio(self, lines: Octets) -> Samples:
        """Return the samples of `lines`, which are alike; raise `ValueError` when one is not strictly base64."""
        texts = np.ascontiguousarray(lines[:, self._text])
        if self._padding:
            texts[:, -self._padding :] = ord("A")
        audio = _octets(pybase64.b64decode(texts.data, validate=True)).reshape(len(lines), -1)
        if self._padding:
            audio = np.ascontiguousarray(audio[:, : self._pcm])
        return audio.view(np.int16)


def _octets(data: bytes) -> Octets:
    return np.frombuffer(data, np.uint8)
