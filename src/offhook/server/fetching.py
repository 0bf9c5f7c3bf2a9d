"""Files of apps, fetched by URL: only from where the address policy allows, no more and no longer than is set here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urljoin

import aiohttp

from offhook.media.egress import AddressPolicy
from offhook.server.delivery import explain, guarded_connector, parse_url
from offhook.server.sounds import PromptError, PromptFault

LARGEST = 32 << 20  # bytes of one file
TOTAL_S = 30.0
CONNECT_S = 10.0
REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a server says of the state of a file, for asking whether it has changed."""

    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file; `data` is None when it is as it was at `stamp`."""

    data: bytes | None
    stamp: Stamp


Fetch = Callable[[str, Stamp], Awaitable[Fetched]]
"""`fetch(url, known)`: get a file, or learn that it is as it was. Raises `PromptError`."""


class Fetcher:
    """A `Fetch` over http and https. Make it on the event loop.

    Redirects are followed, each through the policy; cookies are not kept, the environment's proxies not used.
    """

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=guarded_connector(policy, tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "Offhook", "Accept-Encoding": "identity"},
        )

    async def __call__(self, url: str, known: Stamp) -> Fetched:
        try:
            async with asyncio.timeout(TOTAL_S):
                for _ in range(REDIRECTS + 1):
                    fetched = await self._get(url, known)
                    if isinstance(fetched, Fetched):
                        return fetched
                    url = fetched
        except TimeoutError:
            raise PromptError(PromptFault.DOWNLOAD, f"not there within {TOTAL_S:g} s") from None
        raise PromptError(PromptFault.DOWNLOAD, f"more than {REDIRECTS} redirects")

    async def _get(self, url: str, known: Stamp) -> Fetched | str:
        """Return the file, or where else it is."""
        headers = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
        try:
            target = parse_url(url)
        except ValueError as error:
            raise PromptError(PromptFault.DOWNLOAD, str(error)) from None
        try:
            given = {name: value for name, value in headers.items() if value}
            async with self._session.get(target, headers=given, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308) and (place := response.headers.get("Location")):
                    return urljoin(url, place)
                stamp = Stamp(response.headers.get("ETag", "")[:200], response.headers.get("Last-Modified", "")[:200])
                if response.status == 304 and known != Stamp():
                    return Fetched(None, known)
                if response.status != 200:
                    raise PromptError(PromptFault.DOWNLOAD, f"HTTP {response.status}")
                return Fetched(await _whole(response.content), stamp)
        except PromptError:
            raise
        except Exception as error:
            raise PromptError(PromptFault.DOWNLOAD, str(explain(error, target, TOTAL_S))) from None

    async def close(self) -> None:
        await self._session.close()


async def _whole(stream: aiohttp.StreamReader) -> bytes:
    parts = bytearray()
    while part := await stream.read(1 << 16):
        parts += part
        if len(parts) > LARGEST:
            raise PromptError(PromptFault.TOO_LARGE, f"larger than {LARGEST >> 20} MiB")
    return bytes(parts)
