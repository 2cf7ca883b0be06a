"""The order of pages, updated on every change."""

from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.sorted_index import SortedIndex
from userstorage_operator.readmodel.query import Query, page_of

_KEYS = st.builds(Key, st.sampled_from("abc"), st.sampled_from("xyz"))
_ENTRIES = st.tuples(st.sampled_from(["alice", "bob"]), st.sampled_from(["Ready", "Failed"]), st.booleans())
_CHANGES = st.lists(st.tuples(_KEYS, st.none() | _ENTRIES))
Entry = tuple[str, str, bool]
"""User id, phase, and whether it is ready."""
_CHOICES = st.none() | st.sampled_from("abc")
_USERS = st.none() | st.sampled_from(["alice", "bob", "carol"])


def ordered(changes: list[tuple[Key, Entry | None]]) -> tuple[SortedIndex, dict[Key, Entry]]:
    index, model = SortedIndex(), dict[Key, Entry]()
    for key, entry in changes:
        if entry is None:
            index.remove(key)
            model.pop(key, None)
        else:
            user, phase, ready = entry
            index.add(key, user, phase, ready=ready)
            model[key] = entry
    return index, model


@given(_CHANGES, st.none() | _KEYS, _CHOICES, _USERS, st.sampled_from([None, "Ready", "Pending"]), st.none() | st.booleans())
def test_after_yields_the_matching_keys_in_order_of_namespace_and_name(
    changes: list[tuple[Key, Entry | None]],
    after: Key | None,
    namespace: str | None,
    user: str | None,
    phase: str | None,
    ready: bool | None,
) -> None:
    index, model = ordered(changes)
    expected = [
        key
        for key in sorted(model, key=lambda key: (key.namespace, key.name))
        if (after is None or (key.namespace, key.name) > (after.namespace, after.name))
        and namespace in (None, key.namespace)
        and user in (None, model[key][0])
        and (user is not None or (phase in (None, model[key][1]) and ready in (None, model[key][2])))
    ]
    assert list(index.after(after, namespace, user, phase, ready)) == expected


@given(_CHANGES, st.integers(1, 4), _USERS)
def test_all_pages_together_contain_every_match_once_in_order(
    changes: list[tuple[Key, Entry | None]], limit: int, user: str | None
) -> None:
    index, model = ordered(changes)

    def summaries(after: Key | None) -> list[Unstructured]:
        return [{"namespace": k.namespace, "name": k.name, "userID": model[k][0]} for k in index.after(after, None)]

    found, after = list[Unstructured](), None
    while True:
        page = page_of(summaries(after), Query(user=user, limit=limit, after=after))
        assert len(page.summaries) == limit or page.more_after is None
        found.extend(page.summaries)
        if (after := page.more_after) is None:
            break
    assert found == [summary for summary in summaries(None) if user in (None, summary["userID"])]
