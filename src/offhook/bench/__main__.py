"""One process of a run: `python -m offhook.bench ROLE WORK`, where WORK is JSON; the result is one line of JSON."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from offhook.bench import app, floor, machine, product
from offhook.bench.work import Work


def main() -> None:
    """Play the role; 1 and a line on stderr when it cannot be done."""
    machine.die_with_parent()
    machine.allow_open_files()
    role, work = sys.argv[1], msgspec.json.decode(sys.argv[2], type=Work)
    if role == "app":
        app.main(work)
        return
    try:
        result = _measure(role, work)
    except (product.NoStream, OSError) as error:
        sys.exit(f"{role}: {error}")
    print(msgspec.json.encode(result).decode(), flush=True)


def _measure(role: str, work: Work) -> msgspec.Struct:
    match role:
        case "product":
            return asyncio.run(product.measure(work))
        case "sticky":
            return asyncio.run(product.measure_sticky(work))
        case "floor":
            return floor.measure(work)
        case _:
            sys.exit(f"no such role: {role}")


if __name__ == "__main__":
    main()
