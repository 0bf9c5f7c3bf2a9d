"""An echo on FastAPI, written by hand.

    uvicorn --app-dir examples bot_fastapi_before:app --port 8080

See bot_fastapi.py for the same app with `offhook.bot`.
"""

import base64
import json

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """The rest of the app."""
    return {"status": "ok"}


@app.websocket("/audio")
async def audio(websocket: WebSocket) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    await websocket.accept()
    try:
        while True:
            packet = json.loads(await websocket.receive_text())
            if packet["kind"] == "AudioData":
                pcm = base64.b64decode(packet["audioData"]["data"])
                data = base64.b64encode(pcm).decode("ascii")
                await websocket.send_text(
                    json.dumps({"Kind": "AudioData", "AudioData": {"Data": data}, "StopAudio": None})
                )
    except WebSocketDisconnect:
        pass
