"""Whether the API server serves our kinds."""

import asyncio
import contextlib

import structlog

from userstorage_operator.kube.probe import ApiProbe

log = structlog.get_logger(__name__)


async def wait_established(probe: ApiProbe, stop: asyncio.Event) -> None:
    """Wait for our two kinds: kopf silently never watches what is not served when it starts."""
    while not stop.is_set():
        await probe.once()
        if (problem := probe.unreachable or probe.missing_crds) is None:
            return
        hint = (
            "kubectl apply -k deploy/crds" if probe.missing_crds else "may this pod connect to the API server (NetworkPolicy)?"
        )
        log.warning("waiting_for_crds", error=problem, hint=hint)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await stop.wait()
