"""baresip as a phone of a house: it says a tone, and keeps what it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import soundfile
from tests.legs.sip_peers.programs import Baresip, baresip
from tests.server.sip_peers.house import PASSWORD, PHONE, AppCall, House, until

from offhook.audio import pcm

HZ, DBFS = 440, -12.0  # of the tone
TONE_S = 30
TOLERANCE_DB = 1.0
LISTEN_S = 0.5
CODECS = {  # name, rate and channels, as baresip has them
    "PCMU": ("pcmu", 8000, 1),
    "PCMA": ("pcma", 8000, 1),
    "G722": ("g722", 16_000, 1),
    "opus": ("opus", 48_000, 2),
}


class Softphone:
    """A running baresip."""

    def __init__(self, phone: Baresip) -> None:
        self._phone = phone
        self.do = phone.do

    async def told(self, kind: str, times: int = 1) -> None:
        """Wait until it has been told so often of such as CALL_CLOSED."""
        await until(lambda: self._phone.kinds.count(kind) >= times)

    @property
    def digits(self) -> str:
        """The digits that it was sent."""
        return "".join(event["param"] for event in self._phone.events if event.get("type") == "CALL_DTMF_START")

    def press(self, digits: str) -> None:
        self.do("sndcode", digits)

    @property
    def log(self) -> str:
        return self._phone.folder.joinpath("baresip.log").read_text(errors="replace")

    def level(self) -> float:
        """Level of the tone in the newest of what it recorded, in dBFS; that of silence as long as there is less."""
        files = [*self._phone.folder.glob("dump-*-dec.wav")]
        if not files:
            return -120.0
        file = max(files, key=lambda file: file.stat().st_mtime).read_bytes()
        # The file is still being written: the sizes in its header are filled in at the end.
        channels, rate = (int.from_bytes(file[at : at + size], "little") for at, size in ((22, 2), (24, 4)))
        samples = pcm.as_samples(file[44 : len(file) // 2 * 2])[::channels][-round(LISTEN_S * rate) :]
        return pcm.tone_level(samples, HZ, rate) if len(samples) >= LISTEN_S * rate else -120.0

    async def hears_itself(self, call: AppCall) -> None:
        """Wait until the tone has its level at the app, and in what is heard of the app that says it again."""
        await until(lambda: abs(call.level(HZ, LISTEN_S) - DBFS) <= TOLERANCE_DB)
        await until(lambda: abs(self.level() - DBFS) <= TOLERANCE_DB)


@asynccontextmanager
async def softphone(
    house: House,
    path: str,
    folder: Path,
    registrar: str,
    *,
    user: str = "alice",
    codec: str = "PCMU",
    registered: bool = True,
    port: int = 0,
    more: str = "",
    certificate: Path | None = None,
) -> AsyncIterator[Softphone]:
    """Run it with the account of `user` at `registrar` (host, port and parameters of a SIP URI), logged in if asked.

    `port` is its own, 0 for a free one. `more` is added to the account, such as ";mediaenc=srtp". With a `certificate`
    (and its key, in one file) others can connect to it over TLS.
    """
    name, rate, channels = CODECS[codec]
    wave = folder / "tone.wav"
    soundfile.write(wave, np.column_stack([pcm.tone(HZ, rate, TONE_S, DBFS)] * channels), rate)
    codecs = f"audio_codecs={name}/{rate}/{channels}"
    account = f"<sip:{user}@{registrar}>;auth_pass={PASSWORD};regint={60 * registered};{codecs}{more}"
    trust = f"sip_verify_server no\nsip_cafile {house.ca}"
    if certificate is not None:
        trust += f"\nsip_certificate {certificate}"
    source = f"aufile,{wave}"
    async with baresip(path, folder, account, source=source, host=PHONE, sip_port=port, more=trust) as phone:
        one = Softphone(phone)
        if registered:
            await until(lambda: "200 OK (Offhook) [1 binding]" in one.log)  # It may have been told before we listened.
        yield one
