"""The clips on disk: WAV files that media workers play, found by what they were made of.

Bounds: `LARGEST` bytes in all. When there are more, those that were used longest ago go, but never one that is in use.
A worker that still plays a clip when it goes keeps what it has mapped.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

LARGEST = 1 << 30  # bytes


class Clips:
    """The clips in `directory`, which is made if need be; what an earlier process left there is found again."""

    def __init__(self, directory: Path, largest: int = LARGEST) -> None:
        self._directory = directory
        self._largest = largest
        self._leases: Counter[Path] = Counter()
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.suffix != ".wav":  # Somebody was killed while writing it.
                path.unlink(missing_ok=True)

    def path(self, *made_of: str) -> Path:
        """Return where the clip is, or will be, that is made of this."""
        name = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
        return self._directory / f"{name[:40]}.wav"

    def lease(self, path: Path, fresh: bool = False) -> Path:
        """A clip is in use, until `release`; for a fresh one others may have to make room."""
        self._leases[path] += 1
        if fresh:
            self._shrink()
        return path

    def release(self, path: Path) -> None:
        self._leases[path] -= 1
        if self._leases[path] <= 0:
            del self._leases[path]

    def touch(self, path: Path) -> bool:
        """Note that a clip is used now; False when it is not there."""
        try:
            os.utime(path)
        except OSError:
            return False
        return True

    def _shrink(self) -> None:
        """Let go of the oldest until there is room."""
        sizes = [(path.stat(), path) for path in self._directory.glob("*.wav")]
        found = sorted((status.st_mtime, status.st_size, path) for status, path in sizes)
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self._largest:
                break
            if path not in self._leases:
                path.unlink(missing_ok=True)
                total -= size
