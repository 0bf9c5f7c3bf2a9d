from __future__ import annotations

import base64
import os
import stat
import uuid
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from offhook.server.config import DEVELOPMENT_KEY, ConfigError, Settings

OWN_KEY = base64.b64encode(bytes(range(64))).decode()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OFFHOOK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OFFHOOK_DATA_DIR", str(tmp_path / "data"))


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "offhook.toml"
    path.write_text(text)
    return path


def production(tmp_path: Path, **changes: Any) -> Settings:
    """Settings that are fit for production, with `changes`."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.touch()
    key.touch()
    fit: dict[str, Any] = {"host": "0.0.0.0", "keys": [OWN_KEY], "tls_cert": cert, "tls_key": key}
    return Settings(**{**fit, **changes})


def problems_of(settings: Settings) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings.check()
    return caught.value.problems


def test_defaults_are_for_development() -> None:
    settings = Settings()
    settings.check()
    assert settings.profile == "development"
    assert (settings.host, settings.http, settings.https) == ("127.0.0.1", 7080, 7443)
    assert settings.access_keys() == [DEVELOPMENT_KEY]
    assert settings.caller_api
    assert settings.address_policy().refusal("127.0.0.1") is None


def test_the_development_key_has_the_size_of_a_real_one() -> None:
    assert len(base64.b64decode(DEVELOPMENT_KEY, validate=True)) == 64


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_explicit_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toml(tmp_path, "http = 1\nhttps = 2\nworkers = 3\nmax_calls = 4\n")
    monkeypatch.setenv("OFFHOOK_HTTPS", "20")
    monkeypatch.setenv("OFFHOOK_WORKERS", "30")
    settings = Settings.load(config, workers=200)
    assert (settings.http, settings.https, settings.workers, settings.max_calls) == (1, 20, 200, 4)
    assert settings.node == 0


def test_lists_and_ports_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFHOOK_KEYS", f"{OWN_KEY}, {DEVELOPMENT_KEY}")
    monkeypatch.setenv("OFFHOOK_ALLOW_PRIVATE", "10.0.0.0/8,fd00::/8")
    monkeypatch.setenv("OFFHOOK_HTTP", "off")
    monkeypatch.setenv("OFFHOOK_HTTPS", "")
    settings = Settings.load()
    assert settings.keys == [OWN_KEY, DEVELOPMENT_KEY]
    assert settings.allow_private == [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    assert settings.http is None
    assert settings.https == 7443


def test_lists_from_the_file(tmp_path: Path) -> None:
    settings = Settings.load(toml(tmp_path, 'names = ["a.example", "10.0.0.1"]\nincoming = ["http://localhost:1/in"]'))
    assert settings.names == ["a.example", "10.0.0.1"]
    assert settings.incoming == ["http://localhost:1/in"]


def test_everything_wrong_is_told_by_its_key(tmp_path: Path) -> None:
    config = toml(tmp_path, 'htpp = 1\nring_timeout_s = 181\nallow_private = ["10.0.0.1/8"]\nincoming = ["ftp://x"]')
    with pytest.raises(ConfigError) as caught:
        Settings.load(config, keys=["no base64!"], node=-1, http=65536, resource="abc")
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {
        "htpp",
        "ring_timeout_s",
        "allow_private.0",
        "incoming.0",
        "keys.0",
        "node",
        "http",
        "resource",
    }
    assert "htpp: there is no such setting" in str(caught.value)


@pytest.mark.parametrize("text", ["http = ", "\xff"])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "bad.toml"
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        Settings.load(config)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        Settings.load(tmp_path / "missing.toml")


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="data_dir: "):
        Settings.load(data_dir=tmp_path / "file" / "data")


def test_keys_are_not_shown(tmp_path: Path) -> None:
    assert OWN_KEY not in repr(Settings(keys=[OWN_KEY]))
    with pytest.raises(ValueError, match="keys") as caught:
        Settings(keys=["secret!"])
    assert "secret!" not in str(caught.value)


def test_the_resource_id_is_made_once_and_is_the_audience(tmp_path: Path) -> None:
    first, again, other = Settings(), Settings(), Settings(data_dir=tmp_path / "other")
    assert str(uuid.UUID(first.resource)) == first.resource
    assert first.resource == first.audience == again.resource
    assert other.resource != first.resource
    assert stat.S_IMODE((tmp_path / "data" / "resource-id").stat().st_mode) == 0o600
    assert Settings(audience="mine").audience == "mine"


def test_a_damaged_resource_id_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "resource-id").write_text("nonsense")
    with pytest.raises(ConfigError, match="resource: not a GUID"):
        Settings.load()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_loopback_is_development(host: str) -> None:
    assert Settings(host=host).profile == "development"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "localhost.example", "::ffff:127.0.0.1"])
def test_anything_else_is_production(host: str) -> None:
    assert Settings(host=host).profile == "production"


def test_production_as_it_should_be(tmp_path: Path) -> None:
    settings = production(tmp_path)
    settings.check()
    assert settings.http is None
    assert not settings.caller_api
    assert settings.access_keys() == [OWN_KEY]


def test_production_tells_everything_that_is_missing_at_once() -> None:
    problems = problems_of(Settings(host="0.0.0.0", http=80))
    assert [problem.partition(":")[0] for problem in problems] == ["keys", "tls_cert, tls_key", "http"]


def test_production_takes_no_development_key(tmp_path: Path) -> None:
    unpadded_bits = DEVELOPMENT_KEY.replace("Cg==", "Ch==")  # the same bytes, written otherwise
    for key in (DEVELOPMENT_KEY, unpadded_bits):
        settings = production(tmp_path, keys=[key])
        assert any("development key" in problem for problem in problems_of(settings))
        assert production(tmp_path, keys=[OWN_KEY, key]).access_keys() == [OWN_KEY]


def test_production_takes_no_short_key(tmp_path: Path) -> None:
    short = base64.b64encode(bytes(31)).decode()
    assert any("at least 32 bytes" in problem for problem in problems_of(production(tmp_path, keys=[OWN_KEY, short])))
    Settings(keys=[short]).check()


def test_production_has_no_plain_http(tmp_path: Path) -> None:
    assert any("plain http" in problem for problem in problems_of(production(tmp_path, http=7080)))
    production(tmp_path, http=None).check()


def test_production_dials_no_private_address_unless_told(tmp_path: Path) -> None:
    strict = production(tmp_path).address_policy()
    assert all(strict.refusal(address) for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"))
    opened = production(tmp_path, allow_private=["10.0.0.0/24"]).address_policy()
    assert opened.refusal("10.0.0.1") is None
    assert opened.refusal("10.0.1.1")
    assert opened.refusal("127.0.0.1")


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    assert problems_of(Settings(tls_cert=tmp_path / "cert.pem")) == ["tls_cert and tls_key go together"]


def test_missing_files_are_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    problems = problems_of(Settings(tls_cert=gone, tls_key=gone, ca=gone, keys_file=gone))
    assert [problem.partition(":")[0] for problem in problems] == ["tls_cert", "tls_key", "ca", "keys_file"]


def test_a_server_needs_a_port_and_two_ports_differ() -> None:
    assert "nothing to listen on" in problems_of(Settings(http=None, https=None))[0]
    assert "cannot share" in problems_of(Settings(http=7443))[0]
    Settings(http=0, https=0).check()


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n  {OWN_KEY}  \n")
    assert Settings(keys_file=path).access_keys() == [OWN_KEY]
    production(tmp_path, keys=[], keys_file=path).check()
    path.write_text("not base64!\n")
    assert problems_of(Settings(keys_file=path)) == ["keys_file: an access key is base64 of its bytes"]
    assert any("keys_file" in problem for problem in problems_of(production(tmp_path, keys_file=path)))


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Settings(data_dir=Path("~/there")).data_dir == tmp_path / "there"
