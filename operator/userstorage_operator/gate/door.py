"""The door: the HTTP handler that answers the questions of gateways."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from aiohttp import web

from userstorage_operator.gate.answers import Answer, answer, door, not_found
from userstorage_operator.gate.check import Decision, Outcome, Question, Target, check
from userstorage_operator.gate.credentials import identity
from userstorage_operator.gate.dialects import AUTH_REQUEST, DIALECTS, Dialect
from userstorage_operator.gate.once import Once
from userstorage_operator.gate.table import Table

log = structlog.get_logger(__name__)

_URL = re.compile(
    r"/v1(?:/of/(?P<namespace>[a-z0-9-]+)/(?P<slug>[a-z0-9-]+))?"
    r"/(?:authorize/(?P<dialect>[a-z-]+)(?P<rest>/.*|\?.*|)|door/auth-request)",
    re.DOTALL,
)
_DENIAL_PERIOD, _DENIALS_MAX = 60.0, 1000
_ADMISSION_PERIOD, _ADMISSIONS_MAX = 600.0, 20_000


class Observer(Protocol):
    """Receives every decision, for the metrics."""

    def decided(self, dialect: str, outcome: str, reason: str, seconds: float) -> None:
        """Record a decision; `seconds` is the time that passed since the request arrived."""


class Door:
    """Answers each question from the table, without a request to another server."""

    def __init__(
        self,
        table: Table,
        keys: Callable[[], Sequence[bytes]],
        is_stale: Callable[[], bool],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keys()` returns the keys that prove a question; `is_stale()` whether the table may be outdated."""
        self._table = table
        self._keys = keys
        self._is_stale = is_stale
        self._observer = observer
        self._clock = clock
        self._denials = Once(_DENIAL_PERIOD, _DENIALS_MAX)
        self._admissions = Once(_ADMISSION_PERIOD, _ADMISSIONS_MAX)

    def handle(self, request: web.BaseRequest, received: float) -> web.Response:
        """Return the response to a request that arrived at `received`, in the time of `time.perf_counter`."""
        reply = self._reply(request, received)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    def _reply(self, request: web.BaseRequest, received: float) -> Answer:
        url = _URL.fullmatch(request.raw_path)
        dialect = DIALECTS.get(url["dialect"]) if url is not None and url["dialect"] else AUTH_REQUEST
        if url is None or dialect is None or (url["rest"] and dialect.uri is not None):
            return not_found()
        now = self._clock()
        target = Target(url["namespace"], url["slug"]) if url["namespace"] else None
        decision = check(self._question(request, dialect, target, url["rest"]), self._table, stale=self._is_stale(), now=now)
        self._log(decision, dialect, now)
        accept = request.headers.get("Accept", "")
        reply = answer(decision, dialect, accept, now) if url["dialect"] else door(decision, accept, now)
        self._observer.decided(dialect.name, decision.reason.outcome, decision.reason, time.perf_counter() - received)
        return reply

    def _question(self, request: web.BaseRequest, dialect: Dialect, target: Target | None, appended: str | None) -> Question:
        headers = request.headers
        methods = [request.method] if dialect.method is None else headers.getall(dialect.method, [])
        uris = [appended or ""] if dialect.uri is None else headers.getall(dialect.uri, [])
        return Question(
            identity=identity(headers.getall("Authorization", []), self._keys()),
            target=target,
            hosts=headers.getall(dialect.host, []),
            uris=uris,
            method=methods[0] if len(methods) == 1 else "",
            fetch_sites=headers.getall("Sec-Fetch-Site", []),
            fetch_modes=headers.getall("Sec-Fetch-Mode", []),
        )

    def _log(self, decision: Decision, dialect: Dialect, now: float) -> None:
        """Log a refusal once a minute, and an admission once in ten minutes: for each reason, UserStorage and user.

        No header is logged but the host, in its canonical form.
        """
        row, outcome = decision.row, decision.reason.outcome
        once = self._admissions if outcome is Outcome.ADMITTED else self._denials
        thing = decision.reason, row.key if row is not None else None, decision.user
        if outcome is Outcome.WAITING or not once.is_first(thing, now):
            return
        fields = {"user_id": decision.user, "dialect": dialect.name, "reason": str(decision.reason)}
        if row is not None:
            fields |= {"namespace": row.key.namespace, "name": row.key.name, "uid": row.uid}
        elif decision.host:
            fields |= {"host": decision.host}
        if decision.hint:
            fields |= {"hint": decision.hint}
        if outcome is Outcome.ADMITTED:
            log.info("gate_admitted", **fields)
        else:
            log.warning("gate_denied", **fields)
