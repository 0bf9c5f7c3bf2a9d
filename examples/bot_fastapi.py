"""An echo on FastAPI, with `offhook.bot`.

    uvicorn --app-dir examples bot_fastapi:app --port 8080

See bot_fastapi_before.py for the same app without.
"""

from fastapi import FastAPI, WebSocket

from offhook.bot import AudioData
from offhook.bot.adapters import from_starlette

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """The rest of the app."""
    return {"status": "ok"}


@app.websocket("/audio")
async def audio(websocket: WebSocket) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    async with from_starlette(websocket) as stream:
        async for message in stream:
            if isinstance(message, AudioData):
                await stream.send_audio(message.pcm)
