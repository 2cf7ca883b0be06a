"""From a decision to the HTTP response, in the dialect of the gateway that asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from userstorage_operator.gate.check import Decision, Outcome, Reason
from userstorage_operator.gate.dialects import Dialect
from userstorage_operator.gate.page import page

_RETRY = 2
"""Seconds after which the waiting page asks again."""
_PATIENCE = 600.0
"""Seconds of waiting after which the page no longer asks again by itself."""
_FORBIDDEN = "Forbidden"
_FOR_EVERYBODY = frozenset({Reason.NO_PROOF, Reason.NO_IDENTITY})
"""Reasons that depend on no UserStorage."""
_NO_STORE = {"Cache-Control": "no-store"}
_HTML = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_TEXTS = {
    "NoProof": ("Not logged in", "The request did not come from the login proxy."),
    "NoIdentity": ("Not logged in", "The login proxy has sent no user name."),
    _FORBIDDEN: (
        "Not allowed",
        "You may not open this address. Check the address, and that you are logged in as the right user.",
    ),
    "Stale": ("Not available", "The gate has not heard of the cluster for too long, and refuses everyone."),
    "CrossSite": ("Not allowed", "Another site has sent this request. Open the address itself."),
    "StoppedByOwner": ("Stopped", "Your files are stopped (replicas: 0). Start them to open them."),
    "Deleting": ("Deleted", "Your files at this address are being deleted."),
    "Waiting": ("Starting", "Your files will be there in a moment. This page asks again by itself."),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a gateway."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def answer(decision: Decision, dialect: Dialect, accept: str, now: float) -> Answer:
    """Return the response to a question; `accept` is the header Accept of the client, `now` from the clock of the table."""
    if decision.reason is Reason.ADMITTED and decision.row is not None:
        # Always: a gateway could pass on the client's own header if the gate sent none.
        return Answer(200, {decision.row.header: decision.row.user_id, **_NO_STORE})
    status = {Outcome.LOGIN: 401, Outcome.WAITING: dialect.waiting}.get(decision.reason.outcome, 403)
    return _refusal(status, decision, accept, now)


def door(decision: Decision, accept: str, now: float) -> Answer:
    """Return the page to show after a question was answered with 403, for gateways that show no page of the gate themselves."""
    if decision.reason is Reason.ADMITTED:  # it has become Ready since
        decision = Decision(Reason.WAITING, decision.user, decision.row, decision.host)
    status = {Outcome.LOGIN: 401, Outcome.WAITING: 503}.get(decision.reason.outcome, 403)
    return _refusal(status, decision, accept, now)


def not_found() -> Answer:
    """Return the response to a request for anything that the gate does not serve."""
    return Answer(
        404, {**_NO_STORE, "Content-Type": "application/problem+json"}, _problem(404, "not a URL of the gate", "NotFound")
    )


def _refusal(status: int, decision: Decision, accept: str, now: float) -> Answer:
    """Return a refusal, as a page or as `application/problem+json`.

    401 comes without WWW-Authenticate: gateways pass it on, and browsers would ask for a password that does not exist.
    """
    is_shown = decision.reason in _FOR_EVERYBODY or (decision.reason in _TEXTS and decision.is_of_owner)
    reason = str(decision.reason) if is_shown else _FORBIDDEN
    title, text = _TEXTS[reason]
    headers = {**_NO_STORE, "X-Userstorage-Reason": reason}
    facts: dict[str, str] = {}
    if decision.reason is Reason.WAITING and (row := decision.row) is not None:
        headers |= {"X-Userstorage-State": "waking", "Retry-After": str(_RETRY)}
        facts = {"Phase": row.phase, "Reason": row.reason, "Message": row.message}
        if now - row.since < _PATIENCE:
            headers["Refresh"] = str(_RETRY)
        else:
            text = "Your files have not been there for more than ten minutes. Reload this page to try again."
    if "text/html" in accept:
        return Answer(status, headers | _HTML, page(title, text, facts))
    detail = f"{text} {facts.get('Reason', '')}: {facts.get('Message', '')}" if facts else text
    return Answer(status, headers | {"Content-Type": "application/problem+json"}, _problem(status, detail, reason))


def _problem(status: int, detail: str, reason: str) -> bytes:
    title = HTTPStatus(status).phrase
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "reason": reason})
