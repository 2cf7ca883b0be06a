"""The periodic probe of the API server."""

import pytest

from userstorage_operator.api.errors import ClusterError, NotFound, Unavailable
from userstorage_operator.kube.probe import ApiProbe


class DiscoveryServer:
    def __init__(self) -> None:
        self.answer: set[str] | ClusterError | TimeoutError = {"userstorages", "userstorageclasses"}

    async def discover(self, group: str, version: str) -> set[str]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_api_server_counts_as_unreachable_before_the_first_probe() -> None:
    probe = ApiProbe(DiscoveryServer())
    assert (probe.unreachable, probe.missing_crds, probe.reachable_for()) == ("not probed yet", None, 0)
    assert not probe.reached


async def test_probe_remembers_that_the_api_server_has_answered() -> None:
    server = DiscoveryServer()
    probe = ApiProbe(server)
    await probe.once()
    server.answer = Unavailable(0, "connection refused")
    await probe.once()
    assert probe.unreachable
    assert probe.reached


@pytest.mark.parametrize(
    ("answer", "unreachable", "missing"),
    [
        ({"userstorages", "userstorageclasses", "more"}, None, None),
        ({"userstorages"}, None, "not served: userstorageclasses"),
        (NotFound(404, "no such group"), None, "not served: userstorageclasses, userstorages"),
        (Unavailable(0, "connection refused"), "connection refused", None),
        (TimeoutError(), "no answer from the API server within 3 s", None),
    ],
    ids=["both CRDs", "one CRD", "no group", "unreachable", "timeout"],
)
async def test_probe_reports_unreachable_api_server_and_missing_crds(
    answer: set[str] | ClusterError | TimeoutError, unreachable: str | None, missing: str | None
) -> None:
    server = DiscoveryServer()
    server.answer = answer
    probe = ApiProbe(server)
    await probe.once()
    assert (probe.unreachable, probe.missing_crds) == (unreachable, missing)


async def test_reachable_for_counts_from_the_last_failure() -> None:
    server, now = DiscoveryServer(), [0.0]
    probe = ApiProbe(server, lambda: now[0])
    await probe.once()
    now[0] = 10
    await probe.once()
    assert probe.reachable_for() == 10
    healthy, server.answer = server.answer, Unavailable(503, "restarting")
    await probe.once()
    assert probe.reachable_for() == 0
    server.answer = healthy
    await probe.once()
    now[0] = 13
    assert probe.reachable_for() == 3
