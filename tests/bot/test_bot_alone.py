"""`offhook.bot` with nothing but what `pip install offhook` brings: no package of the server's, and no numpy.

A Python of its own, in which all other packages cannot be imported, does what the tutorials' bots do.
"""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CORE_MB = 40  # as installed; numpy and its OpenBLAS alone are more

ALONE = """
import sys
from importlib.machinery import PathFinder

class Guard(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "offhook" or top.lower() in CORE:
            return super().find_spec(name, path, target)
        raise ModuleNotFoundError(f"{name} is not among what is installed", name=name)

sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not PathFinder] + [Guard]
"""

WORK = """
import array, asyncio, io, math, wave
from offhook.bot import AudioData, BargeIn, SpeechEnded, SpeechStarted, serve
from offhook.bot import adapters, apps, auth, memory
from offhook.audio.either import HAVE_NUMPY

def tone(hz, rate, seconds):
    values = (round(8000 * math.sin(2 * math.pi * hz * at / rate)) for at in range(round(rate * seconds)))
    return array.array("h", values)

file = io.BytesIO()
with wave.open(file, "wb") as wav:  # another rate than the stream's, and stereo
    wav.setparams((2, 2, 24000, 0, "NONE", "not compressed"))
    wav.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) * 2 for sample in tone(440, 24000, 0.4)))

found = []

async def bot(stream):
    barge_in = BargeIn()
    saying = stream.speaker.say(file.getvalue())
    async for message in stream:
        if isinstance(message, AudioData):
            match barge_in.feed(message):
                case SpeechStarted():
                    found.append(await stream.speaker.interrupt() > 0)
                case SpeechEnded():
                    await stream.send_audio(tone(300, 16000, 0.02))

async def main():
    async with await serve(bot):
        pass
    async with memory.MemorySocket(bot, rate=16000) as service:
        await asyncio.sleep(0.05)
        voice = tone(220, 16000, 0.02).tobytes()
        for _ in range(10):
            service.audio(voice)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert service.stops == 1, service.stops
        assert 640 <= len(service.heard) % 640 + 640 and max(memoryview(bytes(service.heard)).cast("h")) > 7000
    async with memory.MemorySocket(apps.echo, rate=16000) as service:
        service.audio(voice)
        await asyncio.sleep(0)
        assert bytes(service.heard) == voice

asyncio.run(main())
assert found == [True], found
assert not HAVE_NUMPY
"""


ECHOED = """
from offhook.bot import memory

async def call():
    async with memory.MemorySocket(echo, rate=16000) as service:
        service.audio(b"ab" * 320)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bytes(service.heard) == b"ab" * 320

asyncio.run(call())
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where only the core can be imported."""
    names = sorted(name.replace("-", "_") for name in core())
    command = [sys.executable, "-c", f"CORE = {names!r}\n{ALONE}\n{script}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def core() -> set[str]:
    """The distributions that `pip install offhook` brings, by their names."""
    found: set[str] = set()
    waiting = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        name = requirement.name.lower().replace("_", "-")
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found.add(name)
            waiting += metadata.requires(name) or []
    return found


def test_the_tutorials_bots_work_without_any_other_package() -> None:
    done = run(WORK)
    assert done.returncode == 0, done.stderr


def test_the_tutorials_whole_bot_does_too() -> None:
    page = (ROOT / "docs/tutorial-echo.md").read_text("utf-8")
    bot = page.partition("```python\n# bot.py\n")[2].partition("```")[0]
    assert bot.endswith("asyncio.run(main())\n")
    # Until it listens, which is then ended: its port may be taken by another.
    ended = bot.replace('"0.0.0.0", 8080', "").replace("asyncio.Event().wait()", "asyncio.sleep(0)")
    done = run(ended + ECHOED)
    assert done.returncode == 0, done.stderr


def test_the_core_is_small() -> None:
    """Byte code included, of ours as of the others'."""
    others = (Path(str(file.locate())) for name in core() for file in metadata.files(name) or [])
    files = [path for path in (*others, *(ROOT / "src").rglob("*")) if path.is_file()]
    assert sum(path.stat().st_size for path in files) < CORE_MB << 20
