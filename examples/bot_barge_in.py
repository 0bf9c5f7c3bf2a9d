"""An app that talks, lets itself be interrupted, and knows what the caller has heard of it.

    python examples/bot_barge_in.py --port 8080 greeting.wav

It plays the file (any 16-bit WAV) when the call begins, and again whenever the caller has said something. With Offhook
give `ws://127.0.0.1:8080/?offhook-heard=1` as the transport URL: then what was heard is known, not estimated.
"""

import argparse
import asyncio
import json
from pathlib import Path

from offhook.bot import AudioData, BargeIn, Handler, MediaStream, SpeechEnded, SpeechStarted, serve


def talker(words: bytes) -> Handler:
    """A handler that says a WAV file."""

    async def talk(stream: MediaStream) -> None:
        speaker, barge_in = stream.speaker, BargeIn()
        saying = speaker.say(words)
        async for message in stream:
            if isinstance(message, AudioData):
                match barge_in.feed(message):
                    case SpeechStarted() if not saying.done:
                        lost_ms = await speaker.interrupt()
                        how = "exactly" if speaker.exact else "about"
                        print(f"interrupted: {saying.played_ms:.0f} ms were heard ({how}), {lost_ms} ms sent in vain")
                    case SpeechEnded():
                        saying = speaker.say(words)

    return talk


async def main() -> None:
    """Serve on --port until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("wav", type=Path)
    arguments = parser.parse_args()
    async with await serve(talker(arguments.wav.read_bytes()), port=arguments.port) as server:
        print(json.dumps({"ready": True, "port": server.port}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
