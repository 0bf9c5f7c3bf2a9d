"""Who is who among telephones: from what SIP calls somebody to the raw id that apps know, and back.

A raw id of a telephone is `4:` and a number (E.164 where it is one), or that of a user, for a phone without a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offhook.call.model import Shown
from offhook.legs.sip.incoming import IncomingSession
from offhook.server.dialplan import Dialled, Route, called, dial
from offhook.server.sip_config import SipPhone, Trunk

ANONYMOUS = "4:anonymous"

CUSTOM = ("x-", "user-to-user")  # headers (lower case) that are passed on as SIP headers of the custom context
CUSTOM_LIMIT = 20  # of them
CONTEXT_CHARS = 1000  # of one of them
NAME_CHARS = 256  # of a display name


class PhoneBook:
    """The phones, trunks and routes of the configuration, as they are now."""

    def __init__(self, region: str, raw_id: Callable[[str], str]) -> None:
        """`region`: as of `dialplan.e164`. `raw_id` gives the raw id of a name that is no number."""
        self._region = region
        self._raw_id = raw_id
        self.use((), (), ())

    def use(self, routes: Sequence[Route], phones: Sequence[SipPhone], trunks: Sequence[Trunk]) -> None:
        """Set who there is; calls that are there go on."""
        self._routes = routes
        self._phones = {phone.user: phone for phone in phones}
        self._user_of = {self._phone_id(phone): phone.user for phone in phones}
        self._trunks = {trunk.name: trunk for trunk in trunks}

    def trunk(self, name: str) -> Trunk | None:
        return self._trunks.get(name)

    # ------------------------------------------------------------------------------------------ who calls whom

    def shown(self, session: IncomingSession) -> Shown:
        """Return what whoever is called sees of a telephone that calls."""
        return Shown(self.caller(session), session.from_.display[:NAME_CHARS], _custom_context(session))

    def caller(self, session: IncomingSession) -> str:
        """Return the raw id of who calls: a phone that has logged in is who it is, whatever it says."""
        if session.phone:
            return self._phone_id(self._phones[session.phone])
        user = session.from_.uri.user
        return ANONYMOUS if not user or user.lower() == "anonymous" else self.address(user)

    def dialled(self, session: IncomingSession) -> str:
        """Return the raw id of whom a telephone calls. A registrar sends us calls under the name that we have
        registered there: who was dialled stands in To then."""
        trunk, user = self.trunk(session.trunk), session.request_uri.user
        registered = trunk is not None and trunk.register_ and user == trunk.user
        return self.address((registered and session.to.uri.user) or user)

    def address(self, user: str) -> str:
        """Return the raw id of the user part of a SIP URI: a number where it is one, else somebody by name."""
        if user in self._phones:
            return self._phone_id(self._phones[user])
        if user.lstrip("+").replace("-", "").replace(".", "").isdigit():
            return f"4:{called(user, self._region)}"
        return self._raw_id(user)

    def _phone_id(self, phone: SipPhone) -> str:
        return f"4:{phone.number}" if phone.number else self._raw_id(phone.user)

    # ------------------------------------------------------------------------------------------ how they are reached

    def phone_user(self, party: str) -> str | None:
        """Return with which user a party (a raw id) logs in, logged in or not; None unless it is a phone of ours."""
        return self._user_of.get(party)

    def dial(self, party: str, caller: str = "") -> Dialled | None:
        """Return how a party (a raw id) is dialled; None unless it is a number that a route names.

        `caller`: the number to be shown, or "". Raises `ValueError` when the route does not let it be.
        """
        number = number_of(party)
        return dial(self._routes, number, caller) if number else None


def number_of(party: str) -> str:
    """Return the number (E.164) of a raw id; "" if it is none."""
    return party.removeprefix("4:") if party.startswith("4:+") else ""


def _custom_context(session: IncomingSession) -> dict[str, dict[str, str]] | None:
    """Return the INVITE's own headers as IncomingCall's custom context; None when there are none."""
    found = {name: value[:CONTEXT_CHARS] for name, value in session.headers if name.lower().startswith(CUSTOM)}
    return {"sipHeaders": dict(list(found.items())[:CUSTOM_LIMIT])} if found else None
