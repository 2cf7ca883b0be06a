"""The check: whether the gate lets a request through. The first step that fails decides; see docs/gate.md."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from userstorage_operator.gate.credentials import Identity
from userstorage_operator.gate.host import canonical
from userstorage_operator.gate.path import is_below
from userstorage_operator.gate.table import Row, Table

SETTLING = 2.0
"""Seconds for which a file browser that became Ready is still waited for: gateways learn later than the gate of the new pod."""
_SAFE_SITES = frozenset({"", "same-origin", "none"})
_READING = frozenset({"GET", "HEAD"})


class Outcome(StrEnum):
    """The kinds of answers."""

    ADMITTED = "admitted"
    LOGIN = "login"
    """The request has no login."""
    REFUSED = "refused"
    WAITING = "waiting"
    """The user is the owner, but there is no file browser to let them into yet."""


class Reason(StrEnum):
    """Why the check ended as it did."""

    ADMITTED = "Admitted"
    NO_PROOF = "NoProof"
    NO_IDENTITY = "NoIdentity"
    MALFORMED = "Malformed"
    UNKNOWN_HOST = "UnknownHost"
    AMBIGUOUS = "Ambiguous"
    STALE = "Stale"
    NOT_OWNER = "NotOwner"
    CROSS_SITE = "CrossSite"
    STOPPED_BY_OWNER = "StoppedByOwner"
    DELETING = "Deleting"
    WAITING = "Waiting"

    @property
    def outcome(self) -> Outcome:
        """The kind of answer."""
        return _OUTCOMES.get(self, Outcome.REFUSED)


_OUTCOMES = {
    Reason.ADMITTED: Outcome.ADMITTED,
    Reason.NO_PROOF: Outcome.LOGIN,
    Reason.NO_IDENTITY: Outcome.LOGIN,
    Reason.WAITING: Outcome.WAITING,
}


@dataclass(frozen=True, slots=True)
class Target:
    """The UserStorage that the gateway's own configuration names, so that no host is believed."""

    namespace: str
    slug: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a gateway asks."""

    identity: Identity
    target: Target | None
    """None if the host decides."""
    hosts: Collection[str]
    """Every value of the dialect's header with the host."""
    uris: Collection[str]
    """Every URI of the request that the dialect states."""
    method: str
    """Method of the request; empty if the dialect does not state exactly one."""
    fetch_sites: Collection[str] = ()
    """Every value of the header Sec-Fetch-Site."""
    fetch_modes: Collection[str] = ()
    """Every value of the header Sec-Fetch-Mode."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of the check."""

    reason: Reason
    user: str = ""
    row: Row | None = None
    """The UserStorage that was asked about, if it was found."""
    host: str = ""
    """The host in canonical form, if one was asked about."""
    hint: str = ""
    """What else the log says."""

    @property
    def is_of_owner(self) -> bool:
        """Whether the user owns the UserStorage that was asked about: only owners learn why they are refused."""
        return self.row is not None and self.row.user_id == self.user


def check(question: Question, table: Table, *, stale: bool, now: float) -> Decision:
    """Return the decision. `stale` says that the table may be outdated; `now` is from the clock of the table."""
    user = question.identity.user
    if not question.identity.proved:
        return Decision(Reason.NO_PROOF)
    if not user:
        return Decision(Reason.NO_IDENTITY)
    found = _find(question, table)
    if found.row is None:
        return found
    row, host = found.row, found.host
    if stale:
        return Decision(Reason.STALE, user, row, host)
    if row.user_id != user:
        hint = "differs in case" if row.user_id.lower() == user.lower() else ""
        return Decision(Reason.NOT_OWNER, user, row, host, hint)
    return Decision(_state(question, row, now), user, row, host)


def _find(question: Question, table: Table) -> Decision:
    """Return a decision with the row that is asked about, or the refusal if there is none."""
    user = question.identity.user
    if (target := question.target) is not None:
        row = table.named(target.namespace, target.slug)
        return Decision(Reason.ADMITTED if row is not None else Reason.UNKNOWN_HOST, user, row)
    host = canonical(next(iter(question.hosts))) if len(question.hosts) == 1 else None
    if host is None:
        return Decision(Reason.MALFORMED, user)
    rows = table.at_host(host)
    if not rows:
        return Decision(Reason.UNKNOWN_HOST, user, host=host)
    matching = [row for row in rows if row.place is not None and _contains(row.place.path, question.uris)]
    # Places of two UserStorages never overlap, except while one of them moves: then no owner is certain.
    if len(matching) != 1:
        return Decision(Reason.AMBIGUOUS, user, host=host)
    return Decision(Reason.ADMITTED, user, matching[0], host)


def _contains(base: str, uris: Collection[str]) -> bool:
    return base == "/" or (len(uris) == 1 and is_below(next(iter(uris)), base))


def _state(question: Question, row: Row, now: float) -> Reason:
    """Return the reason for the owner of the row."""
    if _is_cross_site(question):
        return Reason.CROSS_SITE
    if row.ready:
        return Reason.ADMITTED if now - row.since >= SETTLING else Reason.WAITING
    if row.stopped:
        return Reason.STOPPED_BY_OWNER
    return Reason.DELETING if row.deleting else Reason.WAITING


def _is_cross_site(question: Question) -> bool:
    """Whether another site than this host sent the request, apart from links to it.

    The hosts of users share a parent domain, so browsers send the cookie of the login with requests from one to another.
    """
    if _SAFE_SITES.issuperset(site.strip().lower() for site in question.fetch_sites):
        return False
    modes = {mode.strip().lower() for mode in question.fetch_modes}
    return modes != {"navigate"} or question.method not in _READING
