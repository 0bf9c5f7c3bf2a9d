"""TLS that works on the first day: a certificate authority of our own, and whom we trust when we dial.

Most SDKs insist on https (contract 1.4), so a server without a certificate is of no use to them. `ensure` makes a local
authority and a server certificate in the data directory, and keeps them. Private keys are made once and never change;
certificates are derived from them and replaced whole. So two processes that start at the same moment may both write,
and whatever is left fits together.
"""

from __future__ import annotations

import binascii
import os
import re
import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from offhook.server import files

CA_LIFE = timedelta(days=3652)
CERT_LIFE = timedelta(days=397)  # the most that clients accept (CA/Browser Forum: 398)
RENEW_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(hours=1)  # for clients whose clock is behind ours

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TlsFiles(NamedTuple):
    """Paths of PEM files. `bundle` has the public roots and `ca`: for variables that replace a trust store."""

    ca: Path
    cert: Path
    key: Path
    bundle: Path


def ensure(data_dir: Path, names: Sequence[str] = (), now: datetime | None = None) -> TlsFiles:
    """Make what is missing, about to expire or no longer fitting in `data_dir`, and return where everything is.

    The certificate is valid for localhost, 127.0.0.1, ::1 and `names` (host names, wildcards or addresses). The bundle
    is written anew each time. Raises `ValueError` for a bad name, or a key file that cannot be read.
    """
    now = now or datetime.now(UTC)
    result = TlsFiles(
        data_dir / "ca.pem", data_dir / "server.pem", data_dir / "server-key.pem", data_dir / "bundle.pem"
    )
    alternative = _alternative_names(names)
    ca_key = _load_or_make_key(data_dir / "ca-key.pem")
    key = _load_or_make_key(result.key)

    ca = _load_certificate(result.ca)
    if not (ca and ca.public_key() == ca_key.public_key() and ca.not_valid_after_utc - now > CERT_LIFE):
        ca = _make_ca(ca_key, now)
        files.replace(result.ca, _pem(ca), mode=0o644)

    cert = _load_certificate(result.cert)
    if not (cert and _fits(cert, ca, key, alternative) and cert.not_valid_after_utc - now > RENEW_BEFORE):
        files.replace(result.cert, _pem(_make_certificate(key, ca, ca_key, alternative, now)), mode=0o644)

    files.replace(result.bundle, _make_bundle(result.bundle, ca), mode=0o644)
    return result


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and up with AEAD ciphers only. Raises `ValueError` naming the files when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise ValueError(f"{cert} and {key} do not make a TLS identity: {error.strerror or error}") from None
    return context


def client_context(ca_files: Sequence[Path]) -> ssl.SSLContext:
    """Verify peers against the system's roots and those of `ca_files`. Raises `ValueError` naming a bad file."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in ca_files:
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise ValueError(f"{path} has no certificates to trust: {error.strerror or error}") from None
    return context


def _alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in ["localhost", "127.0.0.1", "::1", *names]:
        general = _general_name(name)
        if general not in found:
            found.append(general)
    return x509.SubjectAlternativeName(found)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.lower().encode("idna").decode()
    except UnicodeError:
        ascii_name = ""
    if not re.fullmatch(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", ascii_name):
        raise ValueError(f"{name!r} is neither a host name nor an address")
    return x509.DNSName(ascii_name)


def _load_or_make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    pem = files.make_once(path, _make_key)
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not the key that was made here; remove it to get a new one")
    return key


def _make_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None  # there is none yet, or none that is of use: one is made


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _fits(
    cert: x509.Certificate, ca: x509.Certificate, key: ec.EllipticCurvePrivateKey, names: x509.SubjectAlternativeName
) -> bool:
    try:
        cert.verify_directly_issued_by(ca)
        return (
            cert.public_key() == key.public_key()
            and cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names
        )
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


def _make_ca(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The name carries the key: of two authorities in one trust store OpenSSL picks the issuer by its name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Offhook local CA {own.digest.hex()[:8]}")])
    return (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(own, critical=False)
        .sign(key, hashes.SHA256())
    )


def _make_certificate(
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName,
    now: datetime,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Offhook")])
    issuer_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(name, ca.subject, key, now, CERT_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    start = now - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
    )


def _key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _KEY_USAGES})


def _make_bundle(bundle: Path, ca: x509.Certificate) -> bytes:
    """The roots as the user has them, those of certifi, and ours; each once."""
    roots: dict[bytes, None] = {}
    for path in [*_user_roots(bundle), Path(certifi.where())]:
        roots |= dict.fromkeys(_certificates_in(path.read_text("ascii", errors="ignore")))
    roots[ca.public_bytes(serialization.Encoding.DER)] = None
    return "".join(map(ssl.DER_cert_to_PEM_cert, roots)).encode()


def _user_roots(bundle: Path) -> list[Path]:
    """The files that the user's own variables name, else the machine's; never our own bundle, which would only grow."""
    named = [os.environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.environ.get(name)]
    if usable := [path for path in map(Path, named) if _is_other_file(path, bundle)]:
        return usable
    defaults = ssl.get_default_verify_paths()
    candidates = [
        defaults.cafile,
        defaults.openssl_cafile,
        os.path.join(defaults.openssl_capath, "ca-certificates.crt"),
    ]
    return [path for path in (Path(name) for name in candidates if name) if _is_other_file(path, bundle)][:1]


def _is_other_file(path: Path, bundle: Path) -> bool:
    if not (path.is_file() and os.access(path, os.R_OK)):
        return False
    return not (bundle.exists() and path.samefile(bundle))


def _certificates_in(text: str) -> Iterable[bytes]:
    for block in _PEM_CERTIFICATE.findall(text):
        try:
            yield ssl.PEM_cert_to_DER_cert(block)
        except (ValueError, binascii.Error):
            continue  # an odd block in the machine's file is no reason not to start
