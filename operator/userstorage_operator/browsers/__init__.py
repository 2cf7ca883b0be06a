"""Drivers of the file browsers: class and spec in, container out. One module per flavor, one table here."""

from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Flavor, UserStorageClass
from userstorage_operator.browsers import custom, dufs, filebrowser, quantum
from userstorage_operator.browsers.browser import Browser

_RENDERERS = {
    Flavor.FILE_BROWSER: filebrowser.render,
    Flavor.QUANTUM: quantum.render,
    Flavor.DUFS: dufs.render,
    Flavor.CUSTOM: custom.render,
}


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """The browser that `cls` asks for. Raises InvalidSpec, naming the field, for what the flavor cannot do."""
    return _RENDERERS[cls.browser.flavor](storage, cls)
