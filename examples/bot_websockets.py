"""The same echo under the `websockets` package, the server of ACS's Python quickstart.

python examples/bot_websockets.py --port 8080
"""

import argparse
import asyncio
import json

from websockets.asyncio.server import ServerConnection, serve

from offhook.bot import AudioData, MediaStream
from offhook.bot.adapters import from_websockets


async def echo(stream: MediaStream) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    async for message in stream:
        if isinstance(message, AudioData):
            await stream.send_audio(message.pcm)


async def connected(ws: ServerConnection) -> None:
    """What `websockets` calls for each connection."""
    async with from_websockets(ws) as stream:
        await echo(stream)


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    async with serve(connected, "127.0.0.1", parser.parse_args().port) as server:
        print(json.dumps({"ready": True, "port": next(iter(server.sockets)).getsockname()[1]}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
