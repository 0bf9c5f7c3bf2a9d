"""The pages about a trunk and a softphone: their files are written, their commands run, and the audio is looked at."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile
from tests.docs.conftest import free_port
from tests.docs.test_doc_commands import (
    PAGE_S,
    ROOT,
    Shell,
    blocks,
    environment,
    follow,
    heard,
    scratch,
    with_free_ports,
)

from offhook.audio.pcm import tone, tone_level
from offhook.server.config import Settings

__all__ = ["scratch"]  # a fixture

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(PAGE_S)]

DOCS = ROOT / "docs"
# For machines without a sound card: what is said is a file, and what is heard another one.
BARESIP = """\
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
audio_source aufile,{folder}/tone.wav
audio_player aubridge,nobody
audio_alert aubridge,nobody
snd_path {folder}
"""


@pytest.fixture
def all_ports(ports: dict[str, str]) -> dict[str, str]:
    return {**ports, **{port: str(free_port()) for port in ("5060", "5070", "7180", "7543")}}


def run(page: str, folder: Path, tmp_path: Path, ports: dict[str, str]) -> None:
    """Write the files that a page shows, and follow it."""
    for block in blocks(DOCS / page, "text"):
        if file := re.match(r"# (\w+\.toml)\n", block):
            (folder / file[1]).write_text(with_free_ports(block, ports), "utf-8")
    shell = Shell(folder, environment(tmp_path, ports))
    try:
        shell.run('export PATH="$PWD/.venv/bin:$PATH"')
        follow(DOCS / page, shell, ports)
    finally:
        shell.close()


def test_the_trunk_page_does_what_it_says(scratch: Path, tmp_path: Path, all_ports: dict[str, str]) -> None:
    pytest.importorskip("azure.communication.callautomation")
    run("trunk.md", scratch, tmp_path, all_ports)
    for hz in (440, 550, 660):
        assert tone_level(heard(scratch / "heard.wav"), hz, 24_000) > -40


def test_the_softphone_page_does_what_it_says(scratch: Path, tmp_path: Path, all_ports: dict[str, str]) -> None:
    pytest.importorskip("azure.communication.callautomation")
    for tool in ("baresip", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    phone = scratch / "phone"
    phone.mkdir()
    (phone / "config").write_text(BARESIP.format(folder=phone), "utf-8")
    soundfile.write(phone / "tone.wav", tone(1000, 8000, 30, -12), 8000)
    run("softphone.md", scratch, tmp_path, all_ports)
    echo, called = sorted(phone.glob("dump-*-dec.wav"))
    assert tone_level(soundfile.read(echo, dtype="int16")[0][-16_000:], 1000, 8000) > -20
    for hz in (440, 550, 660):
        assert tone_level(soundfile.read(called, dtype="int16")[0], hz, 8000) > -40


@pytest.mark.parametrize("page", ["trunk.md", "softphone.md"])
def test_every_file_that_is_shown_fits_together(page: str, tmp_path: Path) -> None:
    shown = [block for block in blocks(DOCS / page, "text") if "[sip]" in block]
    assert len(shown) > 1
    for block in shown:
        (tmp_path / "offhook.toml").write_text(block)
        Settings.load(tmp_path / "offhook.toml", data_dir=tmp_path / "data").check()
