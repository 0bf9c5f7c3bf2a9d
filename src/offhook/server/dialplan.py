"""The dial plan: how numbers are written, by which trunk a number is reached, and who is told of calls to one.

Only what a route names can be dialled: the routes are also the list of allowed destinations, so that nobody's app can
be made to call the other end of the world at the operator's expense.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import phonenumbers

POSSIBLE = phonenumbers.ValidationResult.IS_POSSIBLE

Inbound = Mapping[tuple[str, str], tuple[str, ...]]
"""Who is told of incoming calls: by number and trunk, the URLs of Event Grid endpoints; without any they are refused.

The number is one in E.164, a short one of a PBX, what several begin with and `*`, or `*` alone. The trunk is the one
that calls come by; with "" it does not matter."""


@dataclass(frozen=True, slots=True)
class Route:
    """Numbers (E.164) that begin with `prefix` go to `trunk`; the longest prefix that fits decides.

    What is dialled there is the number without its first `strip` characters and with `prepend` before it; `caller_id`
    is shown instead of the caller's own number, unless it is "". With `caller_ids`, no other number of a caller may be
    shown: who calls as somebody else does not get through.
    """

    prefix: str
    trunk: str
    strip: int = 0
    prepend: str = ""
    caller_id: str = ""
    caller_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialled:
    """How a number is dialled: what to whom, and as whom."""

    trunk: str
    number: str
    caller_id: str


def e164(text: str, region: str = "") -> str:
    """Return a number in E.164 form, such as `+15550100`; `region` (ISO 3166, such as "US") reads national ones.

    Raises `ValueError` for what cannot be a telephone number there. What is not written with a + has to be as long as
    numbers of the region are, as 100 is more likely somebody at a PBX than +1100.
    """
    try:
        number = phonenumbers.parse(text, region.upper() or None)
    except phonenumbers.NumberParseException as error:
        raise ValueError(f"{text[:40]!r} is no telephone number: {error}") from None
    if not text.startswith("+") and phonenumbers.is_possible_number_with_reason(number) != POSSIBLE:
        raise ValueError(f"{text[:40]!r} is no telephone number: too short or too long for one there")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def called(user: str, region: str = "") -> str:
    """Return a number as somebody has dialled it in the form in which apps are told of it: E.164 where it is one."""
    try:
        return e164(user, region)
    except ValueError:
        return user  # A short number, or one of a PBX.


def endpoints_for(inbound: Inbound, to: str, trunk: str) -> tuple[str, ...]:
    """Return the URLs of who is told of a call to `to` (a raw id) that came by `trunk`, or by none ("").

    A whole number goes before a beginning, a longer beginning before a shorter one, and with the same number the trunk
    before none.
    """
    number = to.removeprefix("4:") if to.startswith("4:") else ""
    beginnings = (f"{number[:length]}*" for length in range(len(number), -1, -1))
    keys = ((pattern, by) for pattern in (number, *beginnings) for by in (trunk, ""))
    return next((inbound[key] for key in keys if key in inbound), ())


def dial(routes: Sequence[Route], number: str, caller: str = "") -> Dialled | None:
    """Return how `number` (E.164) is dialled; None when no route allows it. `caller`: the number to be shown, or "".

    Raises `ValueError` when the route does not let `caller` be shown.
    """
    fitting = [route for route in routes if number.startswith(route.prefix)]
    if not fitting:
        return None
    route = max(fitting, key=lambda route: len(route.prefix))
    if caller and route.caller_ids and not route.caller_id and caller not in route.caller_ids:
        raise ValueError(f"the route for {route.prefix} does not let this caller's number be shown")
    return Dialled(route.trunk, route.prepend + number[route.strip :], route.caller_id or caller)
