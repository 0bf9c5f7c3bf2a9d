"""The smallest app on `offhook.bot`: it says back what it hears.

    python examples/bot_echo.py --port 8080

Give `ws://127.0.0.1:8080/` as the transport URL when a call is answered.
"""

import argparse
import asyncio
import json

from offhook.bot import AudioData, MediaStream, serve


async def echo(stream: MediaStream) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    async for message in stream:
        if isinstance(message, AudioData):
            await stream.send_audio(message.pcm)


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    async with await serve(echo, port=parser.parse_args().port) as server:
        print(json.dumps({"ready": True, "port": server.port}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
