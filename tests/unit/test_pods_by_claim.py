from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.informers.mounts import PodsByClaim

NAMES = ("one", "other")
CLAIMS = ("photos", "music")


def pod(*claims: str) -> dict[str, Any]:
    return {"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": claim}} for claim in claims] + [{"emptyDir": {}}]}}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.sets(st.sampled_from(CLAIMS)))))
def test_who_mounts_a_claim_is_found_and_nobody_is_left_behind(told: list[tuple[str, set[str] | None]]) -> None:
    index, there = PodsByClaim(), dict[str, set[str]]()
    for name, claims in told:
        index.on_event(("users", name), pod(*claims) if claims is not None else None)
        there[name] = claims or set()
        for claim in CLAIMS:
            assert index.pods_on("users", claim) == {name for name in NAMES if claim in there.get(name, ())}
    for name in NAMES:
        index.on_event(("users", name), None)
    assert (index._claims_of, index._pods_on) == ({}, {})
