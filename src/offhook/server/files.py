"""Files of the data directory: written whole or not at all, whichever processes start at the same time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` to `path` atomically: a reader sees the old content or the new, never a part."""
    temporary = _write_beside(path, data, mode)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise


def make_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of `path`; when there is none, that of `make()`, which is kept there with mode 0600.

    Of several processes that come here at once one wins, and all of them return what the winner made.
    """
    with suppress(FileNotFoundError):
        return path.read_bytes()
    temporary = _write_beside(path, make(), 0o600)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, this leaves a file that came first alone
    finally:
        temporary.unlink()
    return path.read_bytes()


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.chmod(name, mode)
    return Path(name)
