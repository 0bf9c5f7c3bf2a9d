"""A runner: an app on an official SDK, as a process that does what it is told and says what came of it.

There is one program for each language (`python/runner.py`, `js/runner.mjs`, `java/Runner.java`); each is a table from
operations to methods of its SDK, and no more. It reads commands from stdin and writes answers to stdout, one JSON
object a line; the first line is its own, and tells which SDK it has::

    < {"version": "1.6.0", "operations": ["answerCall", …], "features": ["text", …]}
    > {"do": "play", "on": "<callConnectionId>", "with": {"sources": [{"file": "http://…"}], "to": ["4:+15550100"]}}
    < {"result": {}}                                   it has been done
    < {"refused": {"status": 404, "code": "8522"}}     the service refused it
    < {"failed": "TypeError: …"}                       the SDK did not get that far

`operations` are those of `wire.operations` that the SDK has a method for, `features` what not every version can do
with them (see `whole_call.yaml`). Identifiers are raw ids both ways; other names are those of the wire. Besides
operations, a runner does `signWith` (another access key from now on), `readEvent` (what the SDK's event parser makes of
a callback's body), `readMessages` (… its StreamingData of messages on the audio socket), `writeAudio` and `writeStop`
(what its OutStreamingData makes of PCM). Where an SDK has none of these, its documentation's samples are followed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.sdk.stage import PATIENCE_S, without_proxies

LINE_LIMIT = 1 << 26  # bytes of one answer: the messages of a whole call are read at once
START_S = 120  # a cold JVM, compiling its runner, on a busy machine


class Refused(Exception):
    """The service refused an operation; str: how the SDK reports it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"refused with {status}, code {code}")
        self.status = status
        self.code = code


class Runner:
    """`await Runner.start(command, environment, log)`, then `await runner.do(…)`, at last `await runner.stop()`.

    `log` is the file for the process's stderr: SDKs warn there, and some talk to themselves.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.version = ""
        self.operations: frozenset[str] = frozenset()
        self.features: frozenset[str] = frozenset()

    @classmethod
    async def start(cls, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Runner:
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=without_proxies() | dict(environment),
                limit=LINE_LIMIT,
            )
        runner = cls(process, log)
        try:
            hello = await runner._read(START_S)
        except BaseException:
            await runner.stop()
            raise
        runner.version = hello["version"]
        runner.operations = frozenset(hello["operations"])
        runner.features = frozenset(hello["features"])
        return runner

    async def do(self, what: str, with_: Mapping[str, Any] | None = None, on: str | None = None) -> dict[str, Any]:
        """Have one thing done; return its result. Raises `Refused`, and AssertionError when the SDK fails."""
        command = {"do": what, "on": on, "with": with_ or {}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()
        answer = await self._read(PATIENCE_S)
        if "refused" in answer:
            raise Refused(**answer["refused"])
        assert "result" in answer, f"{what}: {answer.get('failed')}"
        result: dict[str, Any] = answer["result"]
        return result

    async def stop(self) -> None:
        """End the process; one that does not end by itself is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(patience):
            line = await self._process.stdout.readline()
        assert line, f"the runner has ended: {self._log.read_text('utf-8', 'replace')[-3000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer
