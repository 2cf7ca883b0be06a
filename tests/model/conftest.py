"""Shards and the event loop of the model."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Divide `--model-examples` among shards, so that several processes share the work."""
    if "shard" in metafunc.fixturenames:
        metafunc.parametrize("shard", range(4 if metafunc.config.getoption("--model-examples") else 1))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop for all histories of a test; nothing is logged."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
    structlog.configure(**before)
