"""Which class serves a UserStorage."""

from support.builders import class_object
from userstorage_operator.api.userstorageclass import BUILT_IN, class_in_effect


def test_class_in_effect_is_the_named_the_default_or_the_built_in_one() -> None:
    marked = class_object("marked", meta={"annotations": {"userstorage.dev/is-default-class": "true"}})
    named = class_object("named")
    for name, classes, found in (("named", [named, marked], "named"), (None, [named, marked], "marked")):
        cls = class_in_effect(name, classes)
        assert cls is not None
        assert cls.name == found
    assert class_in_effect(None, [named]) is BUILT_IN
    assert class_in_effect("gone", [named, marked]) is None
