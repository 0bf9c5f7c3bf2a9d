"""The SDKs that perform: which versions there are, and what starts the runner of each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

HERE = Path(__file__).parent
TRUST_PASSWORD = "offhook"  # of the trust store: it has a public certificate in it, and no secret


class Performer(NamedTuple):
    """One version of one SDK, and for Python one of its two clients. `folder`: its name in install.py."""

    language: str
    version: str
    folder: str
    style: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.language, self.version, self.style)))


def performers() -> list[Performer]:
    """All of them, slow starters first."""
    python = [line.split()[0].partition("==")[2] for line in (HERE / "python.txt").read_text().splitlines()[1:]]
    npm = json.loads((HERE / "js" / "package.json").read_text())["dependencies"]
    pom = ElementTree.parse(HERE / "java" / "pom.xml").getroot()
    namespace = {"pom": "http://maven.apache.org/POM/4.0.0"}
    java = [each.text or "" for each in pom.findall("./pom:dependencies/pom:dependency/pom:version", namespace)]
    return [
        *(Performer("Java", version, "java") for version in java),
        *(Performer("JavaScript", alias.removeprefix("acs-"), "js") for alias in npm),
        *(Performer("Python", version, f"py-{version}", style) for version in python for style in ("sync", "aio")),
    ]


def command(performer: Performer, folder: Path, data_dir: Path) -> tuple[list[str | Path], dict[str, str]]:
    """Return what starts the performer's runner, and what its environment has to have besides the connection string.

    `folder` is where its SDK is, `data_dir` the server's: our CA is there.
    """
    match performer.language:
        case "Python":
            return [sys.executable, HERE / "python" / "runner.py", performer.style], {"PYTHONPATH": str(folder)}
        case "JavaScript":
            # Node looks for packages from where the importing file lies.
            return ["node", shutil.copy(HERE / "js" / "runner.mjs", folder), performer.version], {}
        case _:
            trust = (
                f"-Djavax.net.ssl.trustStore={_trust_store(data_dir)}",
                f"-Djavax.net.ssl.trustStorePassword={TRUST_PASSWORD}",
            )
            classes = ("-cp", f"{folder}/jars/*", HERE / "java" / "Runner.java")
            return ["java", "-XX:TieredStopAtLevel=1", *trust, *classes], {}


def _trust_store(data_dir: Path) -> Path:
    """The server's CA in the form that a JVM takes, made as `offhook env` says."""
    store = data_dir / "trust.p12"
    if not store.exists():
        importing = ("keytool", "-importcert", "-noprompt", "-alias", "offhook", "-file", data_dir / "ca.pem")
        into = ("-keystore", store, "-storetype", "PKCS12", "-storepass", TRUST_PASSWORD)
        subprocess.run([*importing, *into], check=True, capture_output=True)
    return store
