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
        self._sizes: dict[Path, int] = {}  # in bytes; what was used longest ago comes first
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = []
        for path in directory.iterdir():
            if path.suffix == ".wav":
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
            elif ".wav." in path.name:
                path.unlink(missing_ok=True)  # Somebody was killed while writing it.
        for _, size, path in sorted(found):
            self._sizes[path] = size
        self._total = sum(self._sizes.values())

    def path(self, *made_of: str) -> Path:
        """Return where the clip is, or will be, that is made of this."""
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()
        return self._directory / f"{name[:40]}.wav"

    def lease(self, path: Path) -> None:
        """A clip is in use, or will be, until `release`."""
        self._leases[path] += 1

    def release(self, path: Path) -> None:
        self._leases[path] -= 1
        if self._leases[path] <= 0:
            del self._leases[path]

    def touch(self, path: Path) -> bool:
        """Note that a clip is used now; False when it is not there."""
        try:
            os.utime(path)  # for the next process
        except OSError:
            self._forget(path)
            return False
        if path in self._sizes:
            self._sizes[path] = self._sizes.pop(path)
        return True

    def add(self, path: Path) -> None:
        """A clip has been made, or made anew; others may have to make room."""
        self._forget(path)
        self._sizes[path] = size = path.stat().st_size
        self._total += size
        for old in list(self._sizes):
            if self._total <= self._largest:
                break
            if old not in self._leases:
                old.unlink(missing_ok=True)
                self._forget(old)

    def _forget(self, path: Path) -> None:
        self._total -= self._sizes.pop(path, 0)
