from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import certifi
import pytest
from cryptography import x509

from offhook.server import tls
from offhook.server.tls import TlsFiles, client_context, ensure, server_context

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _no_roots_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def roots(path: Path) -> list[bytes]:
    return list(tls._certificates_in(path.read_text()))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Let the two shake hands in memory; return the client's end, or raise what it raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server, server_hostname=name)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client_end, server_end):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client_end


def dial(files: TlsFiles, name: str, trust: Sequence[Path] | None = None) -> str | None:
    """Return the TLS version, or raise what verification raises."""
    client = client_context(trust if trust is not None else [files.ca])
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return handshake(server_context(files.cert, files.key), client, name).version()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "pbx.example", "a.wild.example", "10.0.0.7"])
def test_the_certificate_holds_for_every_name_under_strict_checks(tmp_path: Path, name: str) -> None:
    files = ensure(tmp_path, ["pbx.example", "*.wild.example", "10.0.0.7"])
    assert dial(files, name) == "TLSv1.3"


def test_nobody_else_is_trusted(tmp_path: Path) -> None:
    files, stranger = ensure(tmp_path / "a"), ensure(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(files, "localhost", [])
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(files, "localhost", [stranger.ca])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Mm]ismatch"):
        dial(files, "other.example")
    assert dial(files, "localhost", [stranger.ca, files.ca])


def test_extensions_and_lives(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["bücher.example"], NOW)
    ca, cert = load(files.ca), load(files.cert)
    assert ca.not_valid_after_utc - NOW > timedelta(days=3650)
    assert cert.not_valid_after_utc - cert.not_valid_before_utc <= timedelta(days=397)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).critical
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "xn--bcher-kva.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    issuer = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer == ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_everything_is_kept(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["a.example"], NOW)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert ensure(tmp_path, ["a.example"], NOW + 300 * DAY) == files
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_private_keys_are_private(tmp_path: Path) -> None:
    tmp_path = tmp_path / "new" / "data"
    ensure(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {
        "ca-key.pem": 0o600,
        "server-key.pem": 0o600,
        "ca.pem": 0o644,
        "server.pem": 0o644,
        "bundle.pem": 0o644,
    }


@pytest.mark.parametrize(("names", "days"), [([], 368), (["new.example"], 1)])
def test_the_certificate_is_renewed_and_the_authority_kept(tmp_path: Path, names: list[str], days: int) -> None:
    files = ensure(tmp_path, [], NOW)
    ca, cert, key = files.ca.read_bytes(), files.cert.read_bytes(), files.key.read_bytes()
    ensure(tmp_path, names, NOW + days * DAY)
    assert files.cert.read_bytes() != cert
    assert (files.ca.read_bytes(), files.key.read_bytes()) == (ca, key)


def test_an_old_authority_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    files = ensure(tmp_path, [], NOW)
    old = load(files.ca)
    ensure(tmp_path, [], NOW + 3300 * DAY)
    new = load(files.ca)
    assert new.not_valid_after_utc > old.not_valid_after_utc
    load(files.cert).verify_directly_issued_by(old)  # who trusted the old one need not change anything


@pytest.mark.parametrize("gone", ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem"])
def test_what_is_missing_is_made_so_that_all_fits_again(tmp_path: Path, gone: str) -> None:
    files = ensure(tmp_path)
    (tmp_path / gone).unlink()
    assert dial(ensure(tmp_path), "localhost")
    files.cert.write_text("damaged")
    assert dial(ensure(tmp_path), "localhost")


@pytest.mark.parametrize("name", ["ca-key.pem", "server-key.pem"])
def test_a_damaged_key_is_named_and_left_alone(tmp_path: Path, name: str) -> None:
    ensure(tmp_path)
    (tmp_path / name).write_text("damaged")
    with pytest.raises(ValueError, match=name):
        ensure(tmp_path)
    assert (tmp_path / name).read_text() == "damaged"


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 64 + ".example", "-", "http://a.example", "a..example"])
def test_a_bad_name_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an address"):
        ensure(tmp_path, [name])


def test_starts_at_the_same_time_leave_a_whole_that_fits(tmp_path: Path) -> None:
    for round_ in range(5):
        barrier = threading.Barrier(4)
        made: list[TlsFiles] = []

        def start(directory: Path, barrier: threading.Barrier = barrier, made: list[TlsFiles] = made) -> None:
            barrier.wait()
            made.append(ensure(directory))

        directory = tmp_path / str(round_)
        threads = [threading.Thread(target=start, args=[directory]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 4
        assert dial(made[0], "localhost")
        assert dial(made[0], "localhost", [made[0].bundle])
        assert len(list(directory.iterdir())) == 5  # no temporary file is left


@pytest.mark.sockets
def test_two_processes_starting_at_once_agree(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from offhook.server.tls import ensure; ensure(Path({str(tmp_path)!r}))"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    before = (tmp_path / "server.pem").read_bytes()
    assert dial(ensure(tmp_path), "localhost")
    assert (tmp_path / "server.pem").read_bytes() == before


def test_the_bundle_has_public_roots_and_ours_each_once(tmp_path: Path) -> None:
    files = ensure(tmp_path)
    found = roots(files.bundle)
    assert len(found) == len(set(found))
    assert set(roots(Path(certifi.where()))) < set(found)
    assert roots(files.ca)[0] in found
    assert dial(files, "localhost", [files.bundle])


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_users_own_roots_are_in_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    company = ensure(tmp_path / "company").ca
    mixed = tmp_path / "mixed.pem"
    mixed.write_text(
        "Company root\n" + company.read_text() + "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"
    )
    monkeypatch.setenv(variable, str(mixed))
    assert roots(company)[0] in roots(ensure(tmp_path / "data").bundle)


def test_our_own_bundle_is_no_source_of_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ensure(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.bundle))
    old_ca = roots(files.ca)[0]
    for name in ("ca.pem", "ca-key.pem"):
        (tmp_path / name).unlink()
    found = roots(ensure(tmp_path).bundle)
    assert old_ca not in found  # else every authority that ever was would stay trusted
    assert set(roots(Path(certifi.where()))) < set(found)


def test_an_unreadable_variable_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert set(roots(Path(certifi.where()))) < set(roots(ensure(tmp_path / "data").bundle))


def test_a_context_names_the_files_it_cannot_use(tmp_path: Path) -> None:
    files, other = ensure(tmp_path / "a"), ensure(tmp_path / "b")
    for cert, key in [(files.cert, other.key), (tmp_path / "gone", files.key)]:
        with pytest.raises(ValueError, match=f"{cert.name} and .*{key.name} do not make"):
            server_context(cert, key)
    with pytest.raises(ValueError, match=r"server-key\.pem has no certificates"):
        client_context([files.key])


def test_old_tls_is_refused(tmp_path: Path) -> None:
    files = ensure(tmp_path)
    server = server_context(files.cert, files.key)
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    assert all("GCM" in cipher["name"] or "CHACHA20" in cipher["name"] for cipher in server.get_ciphers())
    assert client_context([]).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_agrees_under_strict_checks(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["pbx.example"])
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "pbx.example"]
    command += ["-CAfile", os.fspath(files.ca), os.fspath(files.cert)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
