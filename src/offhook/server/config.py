"""What the server can be told, where it is told, and which profile follows from it.

Defaults < the TOML file of `--config` < `OFFHOOK_*` environment variables < explicit values (the command line).

There are two profiles. Bound to loopback, the server is for **development**: a well-known key, plain http, callers over
REST, callbacks to this machine. Bound to anything else it is in **production**: `check` refuses to start without keys
and TLS of its own, and everything that is only safe on a laptop is off.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
import tomllib
import uuid
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_data_path
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from offhook.media.egress import AddressPolicy, IPNetwork
from offhook.server import files, inbound_config, sip_config
from offhook.server.dialplan import Inbound
from offhook.server.inbound_config import HttpUrl, InboundTo
from offhook.server.records_config import Logs, Records
from offhook.server.sip_config import RouteTo, Sip, SipPhone, Trunk
from offhook.server.speech_config import Speech

RELOADED = ("incoming", "inbound", "trunk", "phone", "route")  # what a running server takes when it reads them anew
DEVELOPMENT_KEY = "T2ZmaG9vayBkZXZlbG9wbWVudCBrZXk6IHdlbGwga25vd24sIGFjY2VwdGVkIG9uIGxvb3BiYWNrIG9ubHkuCg=="
"""The access key of the development profile: printed and public, as that of other emulators. 64 bytes in base64."""

MIN_KEY_BYTES = 32  # of a production key; the ones that ACS hands out have 64


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _split(value: object) -> object:
    """An environment variable gives a list as text with commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _port(value: object) -> object:
    return None if value == "off" else value


def _base64(key: str) -> str:
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise ValueError("an access key is base64 of its bytes")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _default_http(data: dict[str, Any]) -> int | None:
    return 7080 if _is_loopback(data.get("host", "")) else None


def _default_workers() -> int:
    return min(len(os.sched_getaffinity(0)), 255) if sys.platform == "linux" else 0


def _guid(text: str) -> str:
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        raise ValueError("not a GUID") from None


def _default_resource(data: dict[str, Any]) -> str:
    return files.make_once(data["data_dir"] / "resource-id", lambda: str(uuid.uuid4()).encode()).decode()


_List = (NoDecode, BeforeValidator(_split))
_Port = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_port)]
_Path = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
_Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(ip_network)]


class Settings(BaseSettings):
    """The server's configuration. Making one makes the data directory with the resource id in it, if need be."""

    model_config = SettingsConfigDict(
        env_prefix="OFFHOOK_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on. Loopback means development."
    )
    http: _Port = Field(
        default_factory=_default_http,
        description='Port for http; 0 picks a free one, "off" opens none. In production off, and has to be.',
    )
    https: _Port = Field(default=7443, description='Port for https; 0 picks a free one, "off" opens none.')
    names: Annotated[list[str], *_List] = Field(
        default=[], max_length=100, description="More host names and addresses for the local certificate."
    )
    tls_cert: _Path | None = Field(
        default=None, description="Certificate chain (PEM) to serve instead of the local one."
    )
    tls_key: _Path | None = Field(default=None, description="Private key (PEM) of tls_cert.")
    ca: _Path | None = Field(
        default=None, description="Certificates (PEM) to trust besides the system's, when we dial."
    )
    keys: Annotated[list[Annotated[str, AfterValidator(_base64)]], *_List] = Field(
        default=[],
        max_length=100,
        repr=False,
        description="Access keys, base64. Without any, development takes the well-known one.",
    )
    keys_file: _Path | None = Field(default=None, description="File with more access keys: one a line, # for comments.")
    incoming: Annotated[list[HttpUrl], *_List] = Field(
        default=[], max_length=100, description="Event Grid endpoints that are told of incoming calls."
    )
    data_dir: _Path = Field(
        default_factory=lambda: user_data_path("offhook", appauthor=False),
        description="Where keys, certificates and the resource id are kept.",
    )
    workers: int = Field(
        default_factory=_default_workers,
        ge=0,
        le=255,
        description="Media worker processes; 0 keeps the media in the process that does the rest.",
    )
    allow_private: Annotated[list[_Network], *_List] = Field(
        default=[], max_length=1000, description="Networks (CIDR) that may be dialled although they are not public."
    )
    issuer: str = Field(
        default="https://acscallautomation.communication.azure.com",
        min_length=1,
        description="`iss` of the tokens on callbacks and media sockets. The default is the one of ACS.",
    )
    resource: Annotated[str, AfterValidator(_guid)] = Field(
        default_factory=_default_resource,
        description="Immutable resource id, a GUID; made once and kept in the file resource-id of data_dir.",
    )
    audience: str = Field(
        default_factory=lambda data: str(data["resource"]),
        min_length=1,
        description="`aud` of the tokens on callbacks and media sockets; the resource id unless given.",
    )
    ring_timeout_s: float = Field(
        default=60, ge=1, le=180, description="How long a call rings until it counts as missed, s."
    )
    node: int = Field(default=0, ge=0, le=4095, description="Number of this node; it is part of every id it gives out.")
    max_calls: int = Field(default=1000, ge=1, le=100_000, description="Calls at a time; one more is refused.")
    max_calls_per_worker: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Calls at a time in one media worker; 0: what its core carries, measured at the start.",
    )
    metrics_allow: Annotated[list[_Network], *_List] = Field(
        default=[], max_length=1000, description="Networks (CIDR) whose hosts may read /metrics in production."
    )
    drain_timeout_s: float = Field(
        default=3600,
        ge=0,
        le=86_400,
        description="How long calls may go on after SIGTERM, s; then they are ended.",
    )
    token_cache_s: float = Field(
        default=60,
        ge=0,
        le=240,
        description="How long one callback token (of 300 s) is used again, s; 0 signs for each event.",
    )
    openid_issuer: HttpUrl | None = Field(
        default=None, description="OpenID issuer whose bearer tokens requests may carry instead of a signature."
    )
    openid_audiences: Annotated[list[str], *_List] = Field(
        default_factory=lambda: ["https://communication.azure.com/"],
        min_length=1,
        max_length=100,
        description="`aud` of those tokens; one of them has to be there. A slash at the end makes no difference.",
    )
    openid_subjects: Annotated[list[str], *_List] = Field(
        default=[], max_length=1000, description="`sub` of those tokens; without any, everybody the issuer knows."
    )
    openid_keys: HttpUrl | None = Field(
        default=None, description="URL of the issuer's keys (JWKS); unless given, its OpenID configuration tells."
    )

    records: Records = Field(default_factory=Records, description="Call records: a section, see call-records.md.")
    logs: Logs = Field(default_factory=Logs, description="Numbers in logs: a section, see call-records.md.")
    speech: Speech = Field(default_factory=Speech, description="Who speaks and listens: a section, see speech.md.")
    sip: Sip = Field(default_factory=Sip, description="SIP and RTP: a section of its own, see telephones.md.")
    trunk: list[Trunk] = Field(default=[], max_length=1000, description="Providers and PBXs: sections [[trunk]].")
    phone: list[SipPhone] = Field(default=[], max_length=10_000, description="SIP phones: sections [[phone]].")
    route: list[RouteTo] = Field(
        default=[], max_length=10_000, description="Which numbers may be called by which trunk: sections [[route]]."
    )
    inbound: list[InboundTo] = Field(
        default=[], max_length=1000, description="Who is told of calls to which numbers: sections [[inbound]]."
    )

    @classmethod
    def load(cls, config: Path | None = None, **explicit: Any) -> Self:
        """Read file and environment; pass as `explicit` only what the user has given. Sections are merged.

        Raises `ConfigError` naming every key that is unknown or has a bad value.
        """
        try:
            given = tomllib.loads(config.read_text("utf-8")) if config else {}
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError([f"{config}: {error}"]) from None
        if isinstance(given.get("sip"), dict) and "sip" in explicit:
            explicit["sip"] = {**given["sip"], **explicit["sip"]}
        try:
            return cls(**{**given, **EnvSettingsSource(cls)(), **explicit})
        except ValidationError as error:
            raise ConfigError(_problems(error)) from None
        except OSError as error:
            raise ConfigError([f"data_dir: {error}"]) from None

    @property
    def profile(self) -> Literal["development", "production"]:
        return "development" if _is_loopback(self.host) else "production"

    @property
    def caller_api(self) -> bool:
        """Whether callers may be simulated over REST: a convenience that has no place in production."""
        return self.profile == "development"

    @property
    def managed_identity(self) -> bool:
        """Whether this server hands out tokens and takes them: whoever can read its data directory may call."""
        return self.profile == "development"

    def reloaded(self, anew: Settings) -> Settings:
        """Return these settings with those of `anew` that a running server takes (RELOADED)."""
        return self.model_copy(update={name: getattr(anew, name) for name in RELOADED})

    def address_policy(self) -> AddressPolicy:
        """Where callbacks and media sockets may go."""
        return AddressPolicy(allow_private=self.profile == "development", allowed=tuple(self.allow_private))

    def inbound_plan(self) -> Inbound:
        """Who is told of which calls."""
        return inbound_config.plan(self.incoming, self.inbound, self.sip.region)

    def endpoints(self) -> list[str]:
        """URLs of all Event Grid endpoints, each once."""
        return list(dict.fromkeys([*self.incoming, *(url for table in self.inbound for url in table.endpoints)]))

    def metrics_readers(self) -> list[IPNetwork]:
        """Who may read `/metrics`: in development this machine, besides `metrics_allow`."""
        own = [ip_network("127.0.0.0/8"), ip_network("::1/128")] if self.profile == "development" else []
        return [*own, *self.metrics_allow]

    def access_keys(self) -> list[str]:
        """The keys that requests may be signed with. Raises `OSError` or `ValueError` for a bad `keys_file`.

        Without keys of its own a development server takes the well-known one. A production server never does, not even
        when it is told to.
        """
        own = [*self.keys, *_read_keys(self.keys_file)] if self.keys_file else list(self.keys)
        if self.profile == "production":
            return [key for key in own if base64.b64decode(key) != base64.b64decode(DEVELOPMENT_KEY)]
        return own or [DEVELOPMENT_KEY]

    def check(self) -> None:
        """Raise `ConfigError` with everything that keeps the server from starting as it is configured."""
        problems = [*self._bad_files(), *self._bad_combinations()]
        if self.profile == "production":
            problems += self._unfit_for_production()
        if problems:
            raise ConfigError(problems)

    def _bad_files(self) -> list[str]:
        paths = {"tls_cert": self.tls_cert, "tls_key": self.tls_key, "ca": self.ca}
        problems = [f"{name}: there is no file {path}" for name, path in paths.items() if path and not path.is_file()]
        if self.records.file is not None and not self.records.file.parent.is_dir():
            problems.append(f"records.file: there is no directory {self.records.file.parent}")
        try:
            self.access_keys()
        except (OSError, ValueError) as error:
            problems.append(f"keys_file: {error}")
        return problems

    def _bad_combinations(self) -> list[str]:
        problems = []
        if (self.tls_cert is None) != (self.tls_key is None):
            problems.append("tls_cert and tls_key go together")
        if self.http is None and self.https is None:
            problems.append("http and https are both off: nothing to listen on")
        if self.workers and os.name != "posix":
            problems.append("workers: here it has to be 0, the media in the one process")
        if self.http and self.http == self.https:
            problems.append(f"http and https cannot share port {self.http}")
        if self.openid_issuer is None and (self.openid_keys or self.openid_subjects):
            problems.append("openid_keys and openid_subjects say nothing without openid_issuer")
        if self.sip.on and (self.sip.host or self.host) in ("0.0.0.0", "::") and not self.sip.advertised:
            problems.append("sip.advertised: bound to every address, the one that telephones shall send to is needed")
        trunks = [trunk.name for trunk in self.trunk]
        problems += inbound_config.contradictions(self.incoming, self.inbound, self.sip.region, trunks)
        return problems + sip_config.contradictions(self.sip, self.trunk, self.phone, self.route)

    def _unfit_for_production(self) -> list[str]:
        where = f"bound to {self.host}, not to loopback"
        problems = []
        try:
            keys = self.access_keys()
        except (OSError, ValueError):
            pass  # already told by _bad_files
        else:
            if not keys:
                problems.append(f"keys: {where}, an access key of its own is needed (the development key is public)")
            if any(len(base64.b64decode(key)) < MIN_KEY_BYTES for key in keys):
                problems.append(f"keys: {where}, an access key needs at least {MIN_KEY_BYTES} bytes")
        if self.tls_cert is None and self.tls_key is None:
            problems.append(f"tls_cert, tls_key: {where}, a certificate and its key are needed")
        if self.http is not None:
            problems.append(f"http: {where}, plain http has to be off")
        for name, url in (("openid_issuer", self.openid_issuer), ("openid_keys", self.openid_keys)):
            if url is not None and not url.startswith("https://"):
                problems.append(f"{name}: {where}, an https URL is needed")
        return problems


def _read_keys(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    return [_base64(line) for line in lines if line and not line.startswith("#")]


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for each in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in each["loc"])
        match each["type"]:
            case "extra_forbidden":
                problems.append(f"{key}: there is no such setting")
            case "default_factory_not_called":
                pass  # follows from another one, which has its own line
            case _:
                problems.append(f"{key}: {each['msg'].removeprefix('Value error, ')}")
    return problems
