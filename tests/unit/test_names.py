import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.identities import ALL
from support.identities import VALID as USER_IDS
from userstorage_operator.api.names import child_name, is_user_id, slug, slug_of_child

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


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
    assert LABEL.fullmatch(name)
    assert LABEL.fullmatch(slug(user_id)), "the value of a label, and the label of a host"
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


@given(USER_IDS, st.from_regex(r"([a-z0-9]([-a-z0-9]{0,3}[a-z0-9-])?)?", fullmatch=True), st.text("ab0", max_size=3))
@example("AB", "", "")
@example("A", "a", "")
@example("|", "", "x")
def test_slug_makes_no_reserved_label(user_id: str, prefix: str, suffix: str) -> None:
    """Certificate authorities and clients refuse hyphens in the third and fourth place, unless the template itself has them."""
    label = f"{prefix}{slug(user_id)}{suffix}"
    if f"{prefix}x"[2:4] != "--":
        assert label[2:4] != "--"


@pytest.mark.parametrize("user_id", ALL)
def test_identity_of_a_provider_is_a_user_id(user_id: str) -> None:
    assert is_user_id(user_id)


@given(st.text(max_size=300))
@example("a" * 256)
@example("alice\n")
def test_only_what_an_http_header_carries_is_a_user_id(text: str) -> None:
    carried = text.isascii() and text.isprintable() and text == text.strip(" ") and 1 <= len(text) <= 255
    assert is_user_id(text) == carried


@given(USER_IDS)
def test_every_valid_user_id_is_accepted(user_id: str) -> None:
    assert is_user_id(user_id)


def test_name_without_the_child_prefix_has_no_slug() -> None:
    assert slug_of_child("postgres-0") is None
