"""The rules of the CRD, the operator's parsers and, for quantities, the API server agree on what is valid."""

import json
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.kubectl import Kubectl
from support.manifests import Object, storage
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.names import is_user_id
from userstorage_operator.api.quantities import parse_duration, parse_quantity

BATCH = 60
OTHER_DIGITS = "\u0665\u00b2\uff11\u0967"
"""Characters that Python takes for digits."""
NUMBERS = st.from_regex(r"[0-9]{1,4}", fullmatch=True) | st.text("019" + OTHER_DIGITS, max_size=5)
QUANTITIES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "", "+", "-", "0", " ", "_"]),
    NUMBERS,
    st.sampled_from(["", "", ".", ".5", ".005", ".", ".5."]),
    st.sampled_from(
        ["Mi", "Gi", "Ti", "Pi", "M", "G", "T", "P", "E", "Ei", "k", "Ki", "m", "u", "n", "", "e6", "E9", "e+7", "e-1"]
    )
    | st.sampled_from(["e", "E+", "e1234", "e4294967303", "mi", "gb", "GI", "e\u0665", "i", " "]),
)
DURATIONS = st.builds(
    "{}{}".format,
    st.lists(st.builds("{}{}".format, NUMBERS, st.sampled_from(["h", "m", "s", "ms", "s", "ms"])), max_size=5).map("".join),
    st.sampled_from(["", "", "", "", "5", "us", "1d", " ", "-", "1.5h", "\n"]),
)
IDS = st.text(max_size=6) | st.text(" a|\\", max_size=4) | st.integers(250, 260).map("x".__mul__)


def admitted(api: Kubectl, specs: list[Object]) -> list[bool]:
    """Return which of these specs the API server admits."""
    items = [storage("default", spec, f"candidate-{number}") for number, spec in enumerate(specs)]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    created = api.run("create", "--dry-run=server", "-o", "name", "-f", "-", input=listed, check=False).stdout.split()
    return [f"userstorage.userstorage.dev/candidate-{number}" in created for number in range(len(specs))]


def is_size(text: str) -> bool:
    try:
        return 2**20 <= parse_quantity(text) <= 2**50
    except InvalidSpec:
        return False


def is_timeout(text: str) -> bool:
    try:
        return timedelta(seconds=1) <= parse_duration(text) <= timedelta(hours=24)
    except InvalidSpec:
        return False


@settings(max_examples=4)
@given(st.lists(QUANTITIES, min_size=BATCH, max_size=BATCH))
@example(["1e4294967303", "\u0661Gi", "1_000Mi", "1e7", "12E", "1.Gi", ".5Gi", "+1Gi", "1Gi\n"])
def test_api_server_and_operator_agree_on_sizes(api: Kubectl, texts: list[str]) -> None:
    found = admitted(api, [{"userID": "alice", "storage": {"size": text}} for text in texts])
    assert dict(zip(texts, found, strict=True)) == {text: is_size(text) for text in texts}


@settings(max_examples=4)
@given(st.lists(DURATIONS, min_size=BATCH, max_size=BATCH))
@example(["\u0665m", "5m5m", "1h1m1s1ms", "1s1s1s1s1s", "100000s", "99999s", "1m\n", "24h1ms"])
def test_api_server_and_operator_agree_on_durations(api: Kubectl, texts: list[str]) -> None:
    for field in ("startTimeout", "deletionTimeout"):
        found = admitted(api, [{"userID": "alice", "lifecycle": {field: text}} for text in texts])
        assert dict(zip(texts, found, strict=True)) == {text: is_timeout(text) for text in texts}


@settings(max_examples=4)
@given(st.lists(IDS, min_size=BATCH, max_size=BATCH))
def test_api_server_and_operator_agree_on_user_ids(api: Kubectl, texts: list[str]) -> None:
    found = admitted(api, [{"userID": text} for text in texts])
    assert dict(zip(texts, found, strict=True)) == {text: is_user_id(text) for text in texts}


@pytest.mark.parametrize("text", ["1Mi", "1Pi", "1048576", "1.5Gi", "2000000k"])
def test_usual_sizes_are_valid(text: str) -> None:
    assert is_size(text)
