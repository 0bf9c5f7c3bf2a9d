"""Fetch the official SDKs that the tests beside this file drive: `python tests/sdk/install.py [NAME...]`.

Every version of the Python SDK (`python.txt`) gets a folder of its own, `.sdk/py-<version>`, for PYTHONPATH; what most
of them need besides is in the environment already. All versions of the JavaScript SDK (`js/package.json`) share
`.sdk/js`; the Java SDK (`java/pom.xml`) is `.sdk/java`. Those folders' names are the NAMEs; without any, all are meant.
A folder is there only when it is complete, and what is there is left alone, so a second run takes no time.

What cannot be fetched is said on stderr, and its tests skip. With OFFHOOK_REQUIRE_PEERS=1 the exit code is 1, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SDK = HERE.parent.parent / ".sdk"
TIMEOUT_S = 600  # for one folder
NODE = 20  # the oldest major version that the newer JavaScript SDKs run on
# What an SDK of many files is made from, and made again when it changes.
MADE_FROM = {"js": ("package.json", "package-lock.json"), "java": ("pom.xml",)}


class Unavailable(Exception):
    """Why an SDK cannot be had."""


def requirements() -> dict[str, str]:
    """Return folder name → requirements of each Python version, the SDK's own first."""
    lines = (HERE / "python.txt").read_text("utf-8").splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {f"py-{pin.split()[0].partition('==')[2]}": pin for pin in pins}


def install_python(pins: str, to: Path) -> None:
    """Put one version into `to`, without what it says it needs: 1.4.0 asks for msrest too, and imports it nowhere."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "--retries", "2", "--no-deps", "--target", os.fspath(to), *pins.split()], to)


def install_javascript(to: Path) -> None:
    """Put all versions into `to`/node_modules, side by side under the aliases of package.json."""
    npm = find_node()
    options = ["--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    # Without network this should be known within seconds: npm by itself waits a minute between its tries.
    _run(
        [npm, "ci", *options, "--prefer-offline", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"], to
    )


def install_java(to: Path) -> None:
    """Put the SDK's jar into `to`, with all that it needs."""
    maven = shutil.which("mvn")
    if maven is None or shutil.which("javac") is None:
        raise Unavailable("a JDK (17 or newer) and mvn are not installed")
    _run([maven, "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"], to)


def find_node() -> str:
    """Return npm's path; raise `Unavailable` unless there is a Node that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE:
        raise Unavailable(f"node {version} is too old: {NODE} or newer is needed")
    return npm


def ensure(name: str) -> None:
    """Make `.sdk/<name>` unless it is there; raise `Unavailable` with the reason when that is impossible."""
    target = SDK / name
    if _is_current(name, target):
        return
    partial = SDK / f"{name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for file in MADE_FROM.get(name, ()):
            shutil.copy(HERE / name / file, partial / file)
        if name == "js":
            install_javascript(partial)
        elif name == "java":
            install_java(partial)
        else:
            install_python(requirements()[name], partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_current(name: str, target: Path) -> bool:
    made_from = MADE_FROM.get(name, ())
    return target.is_dir() and all(
        (target / file).read_bytes() == (HERE / name / file).read_bytes() for file in made_from
    )


def _run(command: list[str], directory: Path) -> None:
    what = " ".join(command)
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what}: not done within {TIMEOUT_S} s") from None
    if done.returncode:
        lines = f"{done.stdout}\n{done.stderr}".splitlines()  # Maven complains on stdout
        errors = [line for line in lines if "warn" not in line.lower() and line.strip()]
        raise Unavailable(f"{what}: exit code {done.returncode}\n" + "\n".join(errors[-6:]))


def main(names: list[str]) -> int:
    """Ensure the folders of these names, or all; return the exit code."""
    known = [*requirements(), *MADE_FROM]
    if unknown := [name for name in names if name not in known]:
        print(f"no such SDK: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    missing = 0
    for name in names or known:
        try:
            ensure(name)
        except Unavailable as reason:
            missing += 1
            print(f"official SDK {name} is NOT AVAILABLE, its tests skip: {reason}", file=sys.stderr)
    return 1 if missing and os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
