"""Why calls end, in the three languages that speak of it: ours, SIP's status, and the telephone network's cause.

The cause (ITU-T Q.850) travels in SIP's Reason header (RFC 3326). Who gives none is taken to mean the one that a
gateway to the telephone network would make of his status (RFC 3398 section 8.2.6.1).
"""

from __future__ import annotations

from collections.abc import Mapping

from offhook.call.model import EndCause, Release
from offhook.legs.sip.events import Ended, ReferProgress
from offhook.legs.sip.message import REASONS

TEXTS: Mapping[int, str] = {  # of Q.850's causes
    1: "Unallocated (unassigned) number",
    2: "No route to specified transit network",
    3: "No route to destination",
    16: "Normal call clearing",
    17: "User busy",
    18: "No user responding",
    19: "No answer from user (user alerted)",
    20: "Subscriber absent",
    21: "Call rejected",
    22: "Number changed",
    25: "Exchange routing error",
    26: "Non-selected user clearing",
    27: "Destination out of order",
    28: "Invalid number format (address incomplete)",
    29: "Facility rejected",
    31: "Normal, unspecified",
    34: "No circuit/channel available",
    38: "Network out of order",
    41: "Temporary failure",
    42: "Switching equipment congestion",
    47: "Resource unavailable, unspecified",
    55: "Incoming calls barred within CUG",
    57: "Bearer capability not authorized",
    58: "Bearer capability not presently available",
    63: "Service or option not available, unspecified",
    65: "Bearer capability not implemented",
    79: "Service or option not implemented, unspecified",
    87: "User not member of CUG",
    88: "Incompatible destination",
    102: "Recovery on timer expiry",
    111: "Protocol error, unspecified",
    127: "Interworking, unspecified",
}
NORMAL, UNSPECIFIED = 16, 31

OF_STATUS: Mapping[int, int] = {  # SIP status → Q.850 cause; 200 is the one of a BYE
    200: NORMAL,
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: 102,
    410: 22,
    413: 127,
    414: 127,
    415: 79,
    416: 127,
    420: 127,
    421: 127,
    423: 127,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: 102,
    505: 127,
    513: 127,
    600: 17,
    603: 21,
    604: 1,
}

ENDS: Mapping[int, EndCause] = {  # SIP status of a call that was not answered → why
    403: EndCause.DECLINED,
    404: EndCause.UNREACHABLE,
    408: EndCause.NO_ANSWER,
    410: EndCause.UNREACHABLE,
    480: EndCause.NO_ANSWER,
    484: EndCause.UNREACHABLE,
    486: EndCause.BUSY,
    487: EndCause.CANCELED,
    600: EndCause.BUSY,
    603: EndCause.DECLINED,
    604: EndCause.UNREACHABLE,
}
REFUSALS: Mapping[EndCause, tuple[int, int]] = {  # why a telephone's call was not answered → SIP status, Q.850 cause
    EndCause.BUSY: (486, 17),
    EndCause.DECLINED: (603, 21),
    EndCause.REJECTED: (603, 21),
    EndCause.FORBIDDEN: (403, 21),
    EndCause.NO_ANSWER: (480, 19),
    EndCause.UNREACHABLE: (404, 1),
    EndCause.MEDIA_LOST: (500, 41),
}


def end_cause(status: int) -> EndCause:
    """Return what the final status of an INVITE means, of which nothing has come."""
    return ENDS.get(status, EndCause.UNREACHABLE)


def refusal(cause: EndCause) -> tuple[int, int]:
    """Return the status, and the Q.850 cause, that a telephone's call is refused with."""
    return REFUSALS.get(cause, (480, UNSPECIFIED))


def goodbye(cause: EndCause) -> int:
    """Return the Q.850 cause that goes with our BYE."""
    return 41 if cause is EndCause.MEDIA_LOST else NORMAL


def release(end: Ended | ReferProgress) -> Release:
    """Return what a telephone has said of the end of its leg, or of whom it was asked to call."""
    q850 = end.q850 if isinstance(end, Ended) else None
    cause = OF_STATUS.get(end.code, UNSPECIFIED) if q850 is None else q850.cause
    return Release(end.code, end.reason, cause, (q850.text if q850 else "") or text(cause))


def text(cause: int) -> str:
    """Return Q.850's own words for a cause; "" for one that is not in TEXTS."""
    return TEXTS.get(cause, "")


def phrase(status: int) -> str:
    """Return the words that go with a SIP status."""
    return REASONS.get(status, "")
