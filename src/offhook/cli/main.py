"""Entry point of the `offhook` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the `server` extra, say how to get it."""
    try:
        from offhook.cli.verbs import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("offhook"):
            raise
        sys.exit(f"offhook: {error.name} is missing; the command line needs: pip install 'offhook[server]'")
    app()
