"""The parrot of `quickstart_handler.py` on `offhook.bot`: no JSON, no base64, no counting of loud frames.

python examples/quickstart_on_offhook_bot.py --port 8080
"""

import argparse
import asyncio
import json
from collections import deque

from offhook.audio.pcm import tone
from offhook.bot import AudioData, BargeIn, MediaStream, SpeechEnded, SpeechStarted, serve

KEPT = 500  # frames of 20 ms: ten seconds are said again, the last ones
PAUSE_MS = 600  # after which speech is over


async def parrot(stream: MediaStream) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    said: deque[bytes] = deque(maxlen=KEPT)
    barge_in = BargeIn(end_ms=PAUSE_MS)
    stream.speaker.say(tone(880, stream.metadata.sample_rate, 0.6))
    async for message in stream:
        if isinstance(message, AudioData):
            said.append(message.pcm)
            match barge_in.feed(message):
                case SpeechStarted():
                    await stream.speaker.interrupt()
                case SpeechEnded(duration_ms=spoken_ms):
                    frames = list(said)[-(spoken_ms + PAUSE_MS) // 20 : -PAUSE_MS // 20]
                    stream.speaker.say(b"".join(frames))


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    async with await serve(parrot, port=parser.parse_args().port) as server:
        print(json.dumps({"ready": True, "port": server.port}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
