"""One OPTIONS to a SIP server, outside of any stack: to see whether it is there."""

from __future__ import annotations

import asyncio
import secrets
import ssl

from offhook.legs.sip import grammar
from offhook.legs.sip.locate import Target
from offhook.legs.sip.uri import Uri

PATIENCE_S = 3.0  # for the connection, and again for the answer
REPEATS_S = (0.5, 1.0)  # between the copies of a request over UDP, then it is waited for
ANSWER_BYTES = 64 << 10  # of what is read over TCP


async def ask(uri: Uri, target: Target, trust: ssl.SSLContext) -> int:
    """Return the status with which `target`, where `uri` leads, answers: any one says that it is there.

    Raises `TimeoutError` without an answer, `OSError` without a way, `ValueError` for an answer that is not SIP.
    """
    transport, address, port = target
    if transport == "udp":
        return await _ask_udp(uri, address, port)
    secure, name = (trust, uri.host) if transport == "tls" else (None, None)
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(
            address, port, limit=ANSWER_BYTES, ssl=secure, server_hostname=name
        )
    try:
        host, own, *_ = writer.get_extra_info("sockname")
        writer.write(_options(uri, transport, host, own))
        async with asyncio.timeout(PATIENCE_S):
            return _status(await reader.readline())
    finally:
        writer.close()


class _Answer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _: object) -> None:
        if not self.status.done():
            try:
                self.status.set_result(_status(data))
            except ValueError as error:
                self.status.set_exception(error)

    def error_received(self, error: Exception) -> None:
        if not self.status.done():
            self.status.set_exception(error)


async def _ask_udp(uri: Uri, address: str, port: int) -> int:
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(_Answer, remote_addr=(address, port))
    try:
        host, own, *_ = transport.get_extra_info("sockname")
        request = _options(uri, "udp", host, own)
        for pause in (*REPEATS_S, PATIENCE_S - sum(REPEATS_S)):
            transport.sendto(request)
            done, _pending = await asyncio.wait([answer.status], timeout=pause)
            if done:
                return answer.status.result()
        raise TimeoutError
    finally:
        transport.close()


def _options(uri: Uri, transport: str, host: str, port: int) -> bytes:
    here, tag = grammar.join_host_port(host, port), secrets.token_hex(8)
    lines = [
        f"OPTIONS {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {here};branch=z9hG4bK{tag};rport",
        f"From: <sip:doctor@{here}>;tag={tag}",
        f"To: <{uri}>",
        f"Call-ID: {tag}",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:doctor@{here};transport={transport}>",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status(answer: bytes) -> int:
    """Return the status of a response that begins so. Raises `ValueError` for anything else."""
    version, _, rest = answer.partition(b" ")
    if version != b"SIP/2.0" or not rest[:3].isdigit():
        raise ValueError("what answers there does not speak SIP")
    return int(rest[:3])
