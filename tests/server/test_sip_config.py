"""What the configuration file may say about telephones, and what it may not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.audio.libopus import needs_opus

from offhook.audio import g722, opus
from offhook.server import sip_config
from offhook.server.config import ConfigError, Settings
from offhook.server.dialplan import Route

WHOLE = """
[sip]
port = 0
advertised = "198.51.100.7"
region = "DE"
rtp_ports = [30000, 30099]
codecs = ["PCMA", "PCMU"]

[[trunk]]
name = "provider"
allow = ["203.0.113.0/24"]
server = "sip:sip.provider.example;transport=tls"
user = "account"
password = "secret"
register = "sip:sip.provider.example"

[[phone]]
user = "desk"
password = "also secret"
number = "+49 30 1234567"

[[route]]
prefix = "+49"
trunk = "provider"
strip = 3
prepend = "0"
"""


def load(tmp_path: Path, toml: str, **explicit: object) -> Settings:
    file = tmp_path / "offhook.toml"
    file.write_text(toml)
    return Settings.load(file, data_dir=tmp_path / "data", **explicit)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    settings.check()
    assert (settings.sip.port, settings.sip.tls_port, settings.sip.rtp_ports) == (0, None, (30_000, 30_099))
    [trunk], [phone], [route] = settings.trunk, settings.phone, settings.route
    assert (trunk.name, trunk.register_, trunk.user) == ("provider", "sip:sip.provider.example", "account")
    assert phone.number == "+49301234567"
    assert route.route() == Route("+49", "provider", 3, "0")
    assert "secret" not in repr(settings)


def test_the_command_line_adds_to_the_section(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE, sip={"port": 5070})
    assert (settings.sip.port, settings.sip.region) == (5070, "DE")


def test_it_reaches_another_process_as_it_is(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    assert Settings(**settings.model_dump(mode="json")) == settings


def test_nothing_listens_unless_it_is_told_to(tmp_path: Path) -> None:
    assert not load(tmp_path, "").sip.on


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[sip]\nport = 0\nextra = "?"', "sip.extra: there is no such setting"),
        ("[sip]\nport = 0\nrtp_ports = [5, 4]", "rtp_ports"),
        ('[[trunk]]\nname = "a b"', "trunk.0.name"),
        ('[sip]\nport = 0\n[[phone]]\nuser = "desk"\npassword = "x"\nnumber = "desk"', "no telephone number"),
        ('[[route]]\nprefix = "49"\ntrunk = "x"', "a prefix is + and digits"),
        ('[[trunk]]\nname = "x"\nserver = "http://x.example"', "a SIP URI"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, toml: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load(tmp_path, toml)


TRUNK = '[[trunk]]\nname = "x"\nallow = ["192.0.2.1"]\n'
LOGS_IN = 'challenge = true\nuser = "u"\npassword = "p"\n'


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (TRUNK, "neither port nor tls_port"),
        ("[sip]\nport = 0\n" + TRUNK + TRUNK, "several 'x'"),
        ("[sip]\nport = 0\n" + TRUNK + '[[route]]\nprefix = "+"\ntrunk = "y"', "no trunk 'y'"),
        ("[sip]\nport = 0\n" + TRUNK + '[[route]]\nprefix = "+"\ntrunk = "x"', "no server to send calls to"),
        ('[sip]\nport = 0\n[[trunk]]\nname = "x"', "nobody may call by it"),
        ("[sip]\nport = 0\n" + TRUNK + "challenge = true", "need user and password"),
        ("[sip]\nport = 0\n" + TRUNK + LOGS_IN + TRUNK.replace("x", "y") + LOGS_IN, "user: there are several 'u'"),
    ],
)
def test_what_contradicts_itself_keeps_the_server_from_starting(tmp_path: Path, toml: str, problem: str) -> None:
    settings = load(tmp_path, toml)
    with pytest.raises(ConfigError, match=re.escape(problem)):
        settings.check()


def test_without_libsrtp_nothing_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required = load(tmp_path, '[sip]\nport = 0\nsrtp = "required"')
    required.check()
    assert required.sip.encryption == "required"
    assert load(tmp_path, WHOLE).sip.encryption == "allowed"
    monkeypatch.setattr(sip_config, "find_spec", lambda name: None)
    assert load(tmp_path, WHOLE).sip.encryption == "off"
    with pytest.raises(ConfigError, match=re.escape('sip.srtp: "required" needs pylibsrtp')):
        required.check()


@needs_opus
def test_a_codec_that_cannot_be_spoken_here_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = WHOLE.replace('["PCMA", "PCMU"]', '["opus", "G722", "PCMU", "PCMA"]')
    load(tmp_path, every).check()
    monkeypatch.setattr(opus, "_LIBRARY", "libnone.so.0")
    monkeypatch.setattr(g722, "find_spec", lambda name: None)
    opus._libopus.cache_clear()
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, every).check()
    assert "sip.codecs: codec opus: libnone.so.0 is not installed: the package is libopus0" in str(raised.value)
    assert "sip.codecs: codec G722: the package G722 is not installed" in str(raised.value)
    load(tmp_path, WHOLE).check()  # which needs neither
