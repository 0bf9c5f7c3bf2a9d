"""One process of a run: see `offhook.bench.processes`."""

from __future__ import annotations

import importlib
import sys

import msgspec

from offhook.bench import machine


def main() -> None:
    """Play the role; 1 and a line on stderr when it cannot be done."""
    machine.die_with_parent()
    machine.allow_open_files()
    role, text = sys.argv[1:]
    module = importlib.import_module(f"offhook.bench.{role}")
    job = msgspec.json.decode(text, type=module.Job)
    try:
        result = module.play(job)
    except OSError as error:
        sys.exit(f"{role}: {error}")
    if result is not None:
        print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
