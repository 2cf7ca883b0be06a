from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.observed.claim_usage import mounted_claims

NAMES = ("one", "other")
CLAIMS = ("photos", "music")


def pod(name: str, version: int, claims: set[str]) -> dict[str, Any]:
    meta = {"namespace": "users", "name": name, "uid": name, "resourceVersion": str(version)}
    volumes = [{"persistentVolumeClaim": {"claimName": claim}} for claim in claims] + [{"emptyDir": {}}]
    return {"metadata": meta, "spec": {"volumes": volumes}}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.sets(st.sampled_from(CLAIMS)))))
def test_pods_are_found_by_claim_and_the_index_forgets_deleted_pods(changes: list[tuple[str, set[str] | None]]) -> None:
    cache, claims_of, versions = ObjectCache(lambda _: None), dict[str, set[str]](), count(1)
    cache.add_index("claim", mounted_claims)
    for name, claims in changes:
        cache.event("DELETED" if claims is None else "MODIFIED", pod(name, next(versions), claims or set()))
        claims_of[name] = claims or set()
        for claim in CLAIMS:
            found = sorted(found["metadata"]["name"] for found in cache.by_index("claim", claim))
            assert found == [name for name in NAMES if claim in claims_of.get(name, ())]
    for name in NAMES:
        cache.event("DELETED", pod(name, next(versions), set()))
    assert cache._indexes["claim"]._keys == {}
