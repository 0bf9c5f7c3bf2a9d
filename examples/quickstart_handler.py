"""The WebSocket side as ACS's Python quickstart has it: `websockets`, `json`, `base64` and nothing of Offhook.

    python examples/quickstart_handler.py --port 8080

In place of the language model there is a parrot: it whistles, and says again whatever the caller has said. It falls
silent when the caller speaks meanwhile. `quickstart_on_offhook_bot.py` is the same app on `offhook.bot`.
"""

import argparse
import asyncio
import base64
import json
import math
from array import array
from collections import deque

from websockets.asyncio.server import ServerConnection, serve

LOUD = 300  # of 32767: more than the noise of a line
BEGINS, ENDS = 4, 30  # frames of 20 ms until speech has begun, or is over
KEPT = 500  # frames: ten seconds are said again, the last ones
WHISTLE_HZ, WHISTLE_S = 880, 0.6


async def send_audio(websocket: ServerConnection, pcm: bytes) -> None:
    """Have it played to the caller, after what was sent before."""
    buffer = base64.b64encode(pcm).decode("ascii")
    await websocket.send(json.dumps({"Kind": "AudioData", "AudioData": {"Data": buffer}, "StopAudio": None}))


async def stop_audio(websocket: ServerConnection) -> None:
    """Take back what was sent and has not been played."""
    await websocket.send(json.dumps({"Kind": "StopAudio", "AudioData": None, "StopAudio": {}}))


async def handle_client(websocket: ServerConnection) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    said: deque[bytes] = deque(maxlen=KEPT)
    speaking, run = False, 0  # run: frames in a row that speak against `speaking`
    async for message in websocket:
        packet = json.loads(message)
        if packet["kind"] == "AudioMetadata":
            await send_audio(websocket, whistle(packet["audioMetadata"]["sampleRate"]))
        elif packet["kind"] == "AudioData":
            pcm = base64.b64decode(packet["audioData"]["data"])
            said.append(pcm)
            loud = max(map(abs, array("h", pcm)), default=0) > LOUD
            run = run + 1 if loud != speaking else 0
            if not speaking and run == BEGINS:
                speaking, run = True, 0
                said = deque(list(said)[-BEGINS:], KEPT)
                await stop_audio(websocket)
            elif speaking and run == ENDS:
                speaking, run = False, 0
                await send_audio(websocket, b"".join(list(said)[:-ENDS]))


def whistle(rate: int) -> bytes:
    """A tone, as 16-bit mono PCM."""
    wave = (math.sin(2 * math.pi * WHISTLE_HZ * n / rate) for n in range(int(WHISTLE_S * rate)))
    return array("h", [int(8000 * sample) for sample in wave]).tobytes()


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    async with serve(handle_client, "127.0.0.1", parser.parse_args().port) as server:
        print(json.dumps({"ready": True, "port": next(iter(server.sockets)).getsockname()[1]}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
