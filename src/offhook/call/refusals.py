"""Why a command does not apply."""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """Why a command was refused; `server.api` has the one table from here to HTTP status and ACS code."""

    CALL_OVER = "Call not found."
    INVITATION_GONE = "The incoming call was already answered, rejected or redirected, or has ended."
    NOT_ESTABLISHED = "The call is not established yet."
    STREAMING_NOT_CONFIGURED = "Media streaming was not configured when the call was created or answered."
    PARTICIPANT_NOT_FOUND = "Participant not found."
    CALL_FULL = "The call has as many participants as it may."
    TRANSFEREE_MISSING = "transferee is required: there is more than one participant who could be transferred."
    NOT_TRANSFERABLE = "Only a phone can be transferred, not an app."
    TRANSFER_UNDER_WAY = "This participant is being transferred already."
    TOO_MANY_OPERATIONS = "Too many media operations of this connection wait for their turn."


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
