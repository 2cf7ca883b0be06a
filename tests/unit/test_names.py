import re
import string

from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.names import child_name, slug, slug_of_child

EDGE = string.ascii_letters + string.digits
USER_IDS = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(EDGE),
    st.text(EDGE + "._@+-", max_size=126),
    st.sampled_from(EDGE),
)


def test_dns_label_is_its_own_slug() -> None:
    assert slug("alice") == "alice"
    assert slug("a" * 50) == "a" * 50


def test_slug_of_any_other_user_id_keeps_a_readable_prefix() -> None:
    assert re.fullmatch(r"a-b-c-x-org---[0-9a-f]{8}", slug("a.b+c@x.org"))


def test_similar_user_ids_have_different_slugs() -> None:
    alike = ["a-b", "a_b", "A-b", "a.b", "a--b", "A", "a", "a" * 51, "a" * 52]
    assert len({slug(user_id) for user_id in alike}) == len(alike)


@given(USER_IDS)
def test_child_names_are_dns_labels_and_contain_the_slug(user_id: str) -> None:
    name = child_name(slug(user_id))
    assert len(name) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert slug_of_child(name) == slug(user_id)


@given(USER_IDS, USER_IDS)
def test_no_user_id_equals_the_hashed_slug_of_another(one: str, other: str) -> None:
    if one != other:
        assert slug(one) != slug(other)


@given(USER_IDS)
def test_hashed_slug_cannot_be_chosen_as_user_id(user_id: str) -> None:
    chosen = slug(user_id)
    if chosen != user_id:
        assert slug(chosen) != chosen


def test_name_without_the_child_prefix_has_no_slug() -> None:
    assert slug_of_child("postgres-0") is None
