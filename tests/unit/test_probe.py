"""Whether the API server answers, told without asking it for every question."""

import pytest

from userstorage_operator.api.errors import ClusterError, NotFound, Unavailable
from userstorage_operator.kube.probe import ApiProbe


class Server:
    def __init__(self) -> None:
        self.answer: set[str] | ClusterError | TimeoutError = {"userstorages", "userstorageclasses"}

    async def discover(self, group: str, version: str) -> set[str]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_before_the_first_look_nothing_is_known() -> None:
    probe = ApiProbe(Server())
    assert (probe.unreachable, probe.missing_crds, probe.reachable_for()) == ("not probed yet", None, 0)


@pytest.mark.parametrize(
    ("answer", "silent", "missing"),
    [
        ({"userstorages", "userstorageclasses", "more"}, None, None),
        ({"userstorages"}, None, "not served: userstorageclasses"),
        (NotFound(404, "no such group"), None, "not served: userstorageclasses, userstorages"),
        (Unavailable(0, "connection refused"), "connection refused", None),
        (TimeoutError(), "no answer from the API server within 3 s", None),
    ],
    ids=["well", "one kind", "no group", "gone", "silent"],
)
async def test_one_look(answer: set[str] | ClusterError | TimeoutError, silent: str | None, missing: str | None) -> None:
    server = Server()
    server.answer = answer
    probe = ApiProbe(server)
    await probe.once()
    assert (probe.unreachable, probe.missing_crds) == (silent, missing)


async def test_it_has_answered_since_it_last_did_not() -> None:
    server, now = Server(), [0.0]
    probe = ApiProbe(server, lambda: now[0])
    await probe.once()
    now[0] = 10
    await probe.once()
    assert probe.reachable_for() == 10
    well, server.answer = server.answer, Unavailable(503, "restarting")
    await probe.once()
    assert probe.reachable_for() == 0
    server.answer = well
    await probe.once()
    now[0] = 13
    assert probe.reachable_for() == 3
