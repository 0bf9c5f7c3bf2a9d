"""What an app's code may give as PCM: bytes, or samples in an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from array import array

    import numpy as np
    from numpy.typing import NDArray

# Mono s16le; of arrays any that gives its int16 samples by the buffer protocol.
Pcm: TypeAlias = "bytes | bytearray | memoryview | array[int] | NDArray[np.int16]"


def pcm_bytes(pcm: Any) -> bytes:
    """Return the bytes of `Pcm`; raise TypeError for anything else."""
    try:
        view = memoryview(pcm)
    except TypeError:
        raise TypeError(f"{type(pcm).__name__}: not PCM, as bytes or an array of int16") from None
    if view.format not in ("B", "b", "c", "h"):
        raise TypeError(f"items of the format {view.format!r}: not PCM, which has bytes or int16")
    return view.tobytes()
