"""The app of a run, in a process of its own: sends every frame of audio back, at the least cost that it can.

It listens twice. The WebSocket server takes the base64 text out of each message and puts it into one of its own, with
nothing decoded, so that the app is not what limits a run. The plain TCP peer belongs to the floor: for each message's
worth of bytes it returns as many bytes as the WebSocket app would.
"""

from __future__ import annotations

import asyncio
import os

import msgspec
import picows

from offhook.bench.work import Ports, Work, sizes
from offhook.wire import streaming

HOST = "127.0.0.1"
_AUDIO = b'{"kind":"AudioData"'
_BEFORE, _AFTER = (part + b'"' if i == 0 else b'"' + part for i, part in enumerate(_empty := ()))
