"""SRTP for one leg (RFC 3711): AES_CM_128_HMAC_SHA1_80, under keys that signalling exchanged (SDES, RFC 4568).

Imported only for a leg that has keys, so that nobody else needs libsrtp.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

import pylibsrtp

SUITE = "AES_CM_128_HMAC_SHA1_80"  # its name in SDP; the only one we speak
KEY_BYTES = 30  # 16 of master key, 14 of master salt
_INLINE = "inline:"


def new_key() -> str:
    """Return fresh key parameters as SDP writes them: `inline:` and 40 characters of base64."""
    return _INLINE + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def parse_key(parameters: str) -> bytes:
    """Return master key and salt of `inline:…` key parameters; raise ValueError when they are of another form.

    A lifetime is not looked at: with this suite it may not be shorter than any call. An MKI is refused.
    """
    if not parameters.startswith(_INLINE):
        raise ValueError("SRTP key: key parameters begin with inline:")
    text, *rest = parameters.removeprefix(_INLINE).split("|")
    if any(":" in part for part in rest):
        raise ValueError("SRTP key: an MKI is not supported")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("SRTP key: not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"SRTP key: {len(key)} bytes instead of {KEY_BYTES} of key and salt")
    return key


class Srtp:
    """The two directions of one leg. Packets are at most 1500 bytes, whole RTP or RTCP packets."""

    def __init__(self, send_key: str, receive_key: str) -> None:
        """Take both sides' key parameters; raise ValueError when one is not valid."""
        self._out = pylibsrtp.Session(_policy(send_key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND))
        self._in = pylibsrtp.Session(_policy(receive_key, pylibsrtp.Policy.SSRC_ANY_INBOUND))
        self.protect = self._out.protect
        self.protect_rtcp = self._out.protect_rtcp

    def unprotect(self, packet: bytes) -> bytes | None:
        """Return the RTP packet in an SRTP packet; None when it is forged, damaged or was there before."""
        return _opened(self._in.unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Return the RTCP packet in an SRTCP packet; None as for `unprotect`."""
        return _opened(self._in.unprotect_rtcp, packet)


def _policy(key: str, direction: int) -> pylibsrtp.Policy:
    return pylibsrtp.Policy(parse_key(key), direction, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80)


def _opened(unprotect: Callable[[bytes], bytes], packet: bytes) -> bytes | None:
    try:
        return unprotect(packet)
    except pylibsrtp.Error:
        return None
