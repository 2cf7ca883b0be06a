"""Waits until the API server serves the operator's CRDs."""

import asyncio
import contextlib

import structlog

from userstorage_operator.kube.probe import ApiProbe

log = structlog.get_logger(__name__)


async def wait_established(probe: ApiProbe, stop: asyncio.Event) -> None:
    """Wait until the API server serves both CRDs, or `stop` is set: kopf never watches a kind that was not served when kopf
    started.
    """
    while not stop.is_set():
        await probe.once()
        if (problem := probe.unreachable or probe.missing_crds) is None:
            return
        hint = (
            "kubectl apply -k deploy/crds"
            if probe.missing_crds
            else "check that this pod may connect to the API server (NetworkPolicy)"
        )
        log.warning("waiting_for_crds", error=problem, hint=hint)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await stop.wait()
