"""What the tests of the browser phone need: Node, Chromium and playwright-core (`package.json`, installed once into
`.sdk/web`). Without them they skip, or with OFFHOOK_REQUIRE_PEERS=1 fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

HERE = Path(__file__).parent
PACKAGES = HERE.parent.parent / ".sdk" / "web"
NPM_FILES = ("package.json", "package-lock.json")
NODE = 20  # the oldest major version that playwright-core runs on
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
INSTALL_TIMEOUT_S = 300


class Browser(NamedTuple):
    """Paths: of the programs, and of the folder whose node_modules has playwright-core."""

    node: str
    chromium: str
    packages: Path


@pytest.fixture(scope="session")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        _unavailable("node is not installed")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE:
        _unavailable(f"node {version} is too old: {NODE} or newer is needed")
    return path


@pytest.fixture(scope="session")
def browser(node: str) -> Browser:
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        _unavailable("Chromium is not installed")
    _install()
    return Browser(node, chromium, PACKAGES)


def _install() -> None:
    """Make the folder of packages, unless what is there was made from the same lock file."""
    if all((PACKAGES / name).is_file() and _same(PACKAGES / name, HERE / name) for name in NPM_FILES):
        return
    npm = shutil.which("npm")
    if npm is None:
        _unavailable("npm is not installed")
    partial = PACKAGES.with_name(f"web.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        for name in NPM_FILES:
            shutil.copy(HERE / name, partial / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=partial, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
        if done.returncode:
            _unavailable(f"npm ci: exit code {done.returncode}\n{done.stderr[-1000:]}")
        shutil.rmtree(PACKAGES, ignore_errors=True)
        partial.rename(PACKAGES)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
