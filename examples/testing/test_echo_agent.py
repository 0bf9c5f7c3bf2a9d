"""An echo agent and its test: a telephone call in a plain pytest function. Run it with `pytest examples/testing`."""

from offhook.audio.pcm import tone
from offhook.bot import AudioData, MediaStream
from offhook.testing.harness import TestCaller


async def echo(stream: MediaStream) -> None:
    async for message in stream:
        if isinstance(message, AudioData):
            await stream.send_audio(message.pcm)


def test_the_caller_hears_itself(caller: TestCaller) -> None:
    call = caller.call(echo)
    call.say(tone(440, call.rate, seconds=1.0, dbfs=-12))
    call.hears_tone(440, level=-12, within=1)
    call.hears_silence(for_=1)
    call.hang_up()
    assert [event.what for event in call.events if "Call" in event.what] == [
        "IncomingCall",
        "CallConnected",
        "CallDisconnected",
    ]
