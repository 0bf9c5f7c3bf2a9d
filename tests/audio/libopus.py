"""Opus needs the system's libopus: its tests skip without it, or with OFFHOOK_REQUIRE_PEERS=1 fail."""

from __future__ import annotations

import os

import pytest

from offhook.audio import opus
from offhook.legs import codecs

needs_opus = pytest.mark.skipif(
    bool(opus.missing()) and os.environ.get("OFFHOOK_REQUIRE_PEERS") != "1", reason=opus.missing() or "it is there"
)
EVERY_CODEC = [pytest.param(name, marks=needs_opus) if name == "opus" else name for name in codecs.NAMES]
