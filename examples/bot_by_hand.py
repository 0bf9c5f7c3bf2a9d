"""The same echo by hand, in the manner of ACS's Python quickstart: `websockets`, `json` and `base64`.

    python examples/bot_by_hand.py --port 8080

What `offhook.bot` is measured against (`offhook bench bot`).
"""

import argparse
import asyncio
import base64
import json

from websockets.asyncio.server import ServerConnection, serve


async def handle_client(websocket: ServerConnection) -> None:
    """What `websockets` calls for each connection."""
    async for message in websocket:
        packet = json.loads(message)
        if packet["kind"] == "AudioData":
            audio_data = packet["audioData"]
            pcm = base64.b64decode(audio_data["data"])
            data = base64.b64encode(pcm).decode("ascii")
            await websocket.send(json.dumps({"Kind": "AudioData", "AudioData": {"Data": data}, "StopAudio": None}))


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    async with serve(handle_client, "127.0.0.1", parser.parse_args().port) as server:
        print(json.dumps({"ready": True, "port": next(iter(server.sockets)).getsockname()[1]}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
