"""The log of the server's processes: one form, on standard error."""

from __future__ import annotations

import logging


def begin(process: str = "") -> None:
    """Log from now on; each line says which `process` it is from, if there are several."""
    where = f"[{process}] " if process else ""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {where}%(name)s: %(message)s")
    logging.getLogger("picows").setLevel(logging.WARNING)  # it tells of every connection
