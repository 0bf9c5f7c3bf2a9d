"""Who may call: trunks by address or digest, phones by digest, and nobody else gets as much as an answer.

No I/O and no clock. Bounds: 4,096 sources are remembered (a full table forgets the one that was quiet longest); who
guesses passwords waits twice as long after each wrong one, up to 5 minutes.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from offhook.legs.sip.digest import Verdict, Verifier
from offhook.legs.sip.flows import ip_of
from offhook.legs.sip.message import Request

MAX_SOURCES = 4_096
FREE_FAILURES = 3  # wrong passwords that cost nothing
LONGEST_BAN_S = 300.0
FORGIVEN_S = 600.0  # without a wrong one, and all is forgotten

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")


@dataclass(frozen=True)
class Trunk:
    """A provider or PBX. Its calls come from `allow` (CIDRs), and from where we are registered with it.

    `server`: the SIP URI that calls to it are sent to. `user` and `password` answer its challenges; with `challenge`
    its own calls have to prove them, too, from wherever they come: without `allow`, everybody is asked who he is, as
    nothing else tells that it is the trunk who calls. `register`: the URI of its registrar, "" for none.
    `rate`: messages a second that are read from its addresses.
    """

    name: str
    allow: tuple[str, ...] = ()
    server: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    register: str = ""
    challenge: bool = False
    rate: float = 1_000.0

    def __post_init__(self) -> None:
        """Raise ValueError for what is no CIDR, and for a challenge that nobody could answer."""
        for network in self.allow:
            ipaddress.ip_network(network)
        if self.challenge and not (self.user and self.password):
            raise ValueError(f"trunk {self.name}: to challenge it, it needs a user and a password")


@dataclass(frozen=True)
class Phone:
    """Somebody who may register with us, and call. `user` is the user part of the address."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Admitted:
    """Who it is: the name of a trunk, or the user of a phone; the other is ""."""

    trunk: str = ""
    phone: str = ""


@dataclass(frozen=True)
class Challenged:
    """Answer 401 with these WWW-Authenticate headers."""

    headers: Sequence[str]


@dataclass(frozen=True)
class Forbidden:
    """Answer 403: it is a phone, but speaks for somebody else."""


@dataclass(frozen=True)
class Ignored:
    """Answer nothing."""


Judgement = Admitted | Challenged | Forbidden | Ignored


JUDGEMENTS = ("admitted", "challenged", "forbidden", "ignored", "too_fast", "wrong_password")
"""What the guard counts: its judgements, messages that came too fast to be read, and passwords that were wrong."""


class Recent(Generic[T]):
    """A table by source address, of `MAX_SOURCES` at most; the one that was not used for longest goes first."""

    def __init__(self) -> None:
        self._table: OrderedDict[str, T] = OrderedDict()

    def get(self, source: str) -> T | None:
        return self._table.get(source)

    def put(self, source: str, value: T) -> None:
        self._table[source] = value
        self._table.move_to_end(source)
        if len(self._table) > MAX_SOURCES:
            self._table.popitem(last=False)

    def forget(self, source: str) -> None:
        self._table.pop(source, None)


class Guard:
    """Judges requests by their source and their credentials. `rate`: messages a second from each unknown source; ten
    times as many from one where a phone has proved who it is."""

    def __init__(
        self,
        trunks: Iterable[Trunk],
        phones: Iterable[Phone],
        verifier: Verifier,
        rate: float = 20.0,
    ) -> None:
        self.verifier = verifier
        self.counts: Counter[str] = Counter()
        self._rate = rate
        self._proved: Recent[bool] = Recent()  # sources of phones
        self._buckets: Recent[tuple[float, float]] = Recent()  # tokens, and when they were counted
        self._failures: Recent[tuple[int, float]] = Recent()  # wrong passwords, and when the last one came
        self._registered: dict[str, str] = {}  # addresses of registrars: trunk
        self.reload(trunks, phones)

    def reload(self, trunks: Iterable[Trunk], phones: Iterable[Phone]) -> None:
        """Replace all trunks and phones. Raises ValueError when two have one name; nothing is changed then."""
        trunks, phones = list(trunks), list(phones)
        by_name = {trunk.name: trunk for trunk in trunks}
        by_user = {phone.user: phone for phone in phones}
        challenged = [trunk for trunk in trunks if trunk.challenge]
        passwords = [(trunk.user, trunk.password) for trunk in challenged]
        passwords += [(phone.user, phone.password) for phone in phones]
        if len(by_name) < len(trunks) or len(dict(passwords)) < len(passwords):
            raise ValueError("SIP: two trunks or phones have the same name")
        self.trunks, self.phones = by_name, by_user
        self._passwords = dict(passwords)
        self._challenged = {trunk.user: trunk.name for trunk in challenged}
        self._asks_everybody = not all(trunk.allow for trunk in challenged)
        self._networks = [(ipaddress.ip_network(network), trunk.name) for trunk in trunks for network in trunk.allow]
        self._registered = {ip: name for ip, name in self._registered.items() if name in by_name}

    def trust(self, ip: str, trunk: str) -> None:
        """Take calls from `ip` for the trunk's: we are registered there."""
        self._registered[ip] = trunk

    def welcomes(self, ip: str) -> bool:
        """Whether it makes sense to read anything from there."""
        return bool(self._passwords) or self.trunk_at(ip) is not None

    def trunk_at(self, ip: str) -> Trunk | None:
        """Return the trunk whose calls come from `ip`."""
        name = self._registered.get(ip)
        if name is None and (address := ip_of(ip)) is not None:
            name = next((name for network, name in self._networks if address in network), None)
        return None if name is None else self.trunks.get(name)

    def paces(self, ip: str, now: float) -> bool:
        """Whether one more message from `ip` is within its rate; a second's worth may come at once, twice over."""
        trunk = self.trunk_at(ip)
        rate = trunk.rate if trunk else 10 * self._rate if self._proved.get(ip) else self._rate
        tokens, then = self._buckets.get(ip) or (2 * rate, now)
        tokens = min(tokens + (now - then) * rate, 2 * rate)
        self._buckets.put(ip, (max(tokens - 1, 0.0), now))
        if tokens < 1:
            self.counts["too_fast"] += 1
        return tokens >= 1

    def judge(self, request: Request, ip: str, now: float) -> Judgement:
        """Say what to do with a request that belongs to no call of ours."""
        judgement = self._judge(request, ip, now)
        self.counts[type(judgement).__name__.lower()] += 1
        return judgement

    def _judge(self, request: Request, ip: str, now: float) -> Judgement:
        trunk = self.trunk_at(ip)
        header = request.headers.get("Authorization")
        if self._banned(ip, now):
            return Ignored() if trunk is None or trunk.challenge else Admitted(trunk.name)
        stale = False
        if header is not None:
            verdict, user = self.verifier.verify(header, request.method, self._passwords.get, now)
            if verdict is Verdict.GOOD:
                self._failures.forget(ip)
                self._proved.put(ip, True)
                return self._known(request, user)
            if verdict is Verdict.BAD:
                self._fail(ip, now)
            stale = verdict is Verdict.STALE
        if trunk is not None and not trunk.challenge and request.method != "REGISTER":
            return Admitted(trunk.name)
        asked = trunk is not None or request.from_.uri.user in self._passwords
        if asked or (self._asks_everybody and request.method != "REGISTER"):
            return Challenged(self.verifier.challenges(now, stale))
        return Ignored()

    def _known(self, request: Request, user: str) -> Judgement:
        if user in self._challenged:
            return Admitted(trunk=self._challenged[user])
        claimed = request.to if request.method == "REGISTER" else request.from_
        return Admitted(phone=user) if claimed.uri.user == user else Forbidden()

    def _banned(self, ip: str, now: float) -> bool:
        count, last = self._failures.get(ip) or (0, now)
        wait = min(2.0 ** (count - FREE_FAILURES), LONGEST_BAN_S) if count > FREE_FAILURES else 0.0
        return now < last + wait

    def _fail(self, ip: str, now: float) -> None:
        self.counts["wrong_password"] += 1
        count, last = self._failures.get(ip) or (0, now)
        self._failures.put(ip, (count + 1 if now - last < FORGIVEN_S else 1, now))
