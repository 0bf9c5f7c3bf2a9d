"""A simulated caller without Offhook's library: the caller API of docs/caller-api.md, signed and spoken by hand.

    python examples/caller_by_hand.py http://127.0.0.1:7080 ACCESS_KEY +15550199

It calls, says one second of a 440 Hz tone, listens for two seconds and hangs up.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import math
import struct
import sys
from email.utils import formatdate
from urllib.parse import urlsplit

import aiohttp

RATE = 24_000


def sign(method: str, url: str, body: bytes, key: str) -> dict[str, str]:
    """Return the headers of a signed request, as the SDKs make them."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    date = formatdate(usegmt=True)
    content_hash = base64.b64encode(hashlib.sha256(body).digest()).decode()
    text = f"{method}\n{path}\n{date};{parts.netloc};{content_hash}"
    digest = hmac.digest(base64.b64decode(key), text.encode(), "sha256")
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": content_hash,
        "Authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
        + base64.b64encode(digest).decode(),
        "Content-Type": "application/json",
    }


async def call(server: str, key: str, to: str) -> None:
    """Place one call and print what happens."""
    async with aiohttp.ClientSession() as session:
        url = f"{server}/offhook/calls"
        body = json.dumps({"to": to, "from": "+15550100", "rate": RATE}).encode()
        async with session.post(url, data=body, headers=sign("POST", url, body, key)) as response:
            placed = await response.json()
            if response.status != 201:
                sys.exit(f"{response.status}: {placed['error']['message']}")
        print("rings", flush=True)
        tone = [round(8000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(RATE)]
        frames = audible = 0
        async with session.ws_connect(placed["audioUrl"]) as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:  # 20 ms of what the caller hears
                    frames += 1
                    audible += any(message.data)
                    if frames == 100:
                        await socket.send_str('{"kind":"hangUp"}')
                elif message.type is aiohttp.WSMsgType.TEXT:
                    told = json.loads(message.data)
                    print(told["kind"], told.get("reason", ""), flush=True)
                    if told["kind"] == "connected":  # audio may be sent ahead: the server plays it in real time
                        await socket.send_bytes(struct.pack(f"<{RATE}h", *tone))
        print(f"{frames} frames heard, {audible} of them not silent")


if __name__ == "__main__":
    asyncio.run(call(*sys.argv[1:4]))
