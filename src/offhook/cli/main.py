"""Entry point of the `offhook` command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; without the `server` extra, say how to get it."""
    # Before numpy is loaded, and for every process that is started from here: the matrices of a slot are small, and
    # threads that wait for each other cost several times the work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from offhook.cli.verbs import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("offhook"):
            raise
        sys.exit(f"offhook: {error.name} is missing; the command line needs: pip install 'offhook[server]'")
    app()
