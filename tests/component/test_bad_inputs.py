"""Each of the 62 bad inputs on the real API server, with a running operator and other users."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from component import catalogue
from component.catalogue import CATALOGUE, BadInput
from support.arena import Arena
from support.arena import arena as new_arena
from support.kubectl import Kubectl

pytestmark = [pytest.mark.kwok, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_arena(api: Kubectl) -> AsyncIterator[Arena]:
    async with new_arena(api) as created:
        yield created


@pytest_asyncio.fixture(loop_scope="module")
async def arena(request: pytest.FixtureRequest, api: Kubectl, shared_arena: Arena) -> AsyncIterator[Arena]:
    """The arena that all rows share; a rerun of a row gets a new one, as the first try left its objects in the shared one."""
    if getattr(request.node, "execution_count", 1) == 1:
        yield shared_arena
        return
    async with new_arena(api) as created:
        yield created


@pytest.mark.filterwarnings("ignore:Sending a large body")  # row 60
@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: f"{row.number} {row.text} ({row.expected})")
async def test_bad_input_has_expected_outcome_and_affects_no_other_user(arena: Arena, row: BadInput) -> None:
    before = await arena.bystander_state()
    for attempt in row.attempts:
        await attempt(arena, row.number)
    assert await arena.bystander_state() == before
    assert arena.metrics.is_alive()
    assert arena.metrics.internal_errors() == 0


async def test_catalogue_of_bad_inputs_is_numbered_without_gaps() -> None:
    assert [row.number for row in CATALOGUE] == list(range(1, 63))


async def test_every_input_to_be_refused_is_tried_with_a_refusal_check() -> None:
    for row in CATALOGUE:
        refusing = {catalogue.refused, catalogue.change_refused}.intersection(row.attempts)
        assert bool(refusing) is ("R" in row.expected and row.number not in (44, 45)), row.text
