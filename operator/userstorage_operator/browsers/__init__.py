"""Drivers of the file browsers, one module per flavor: each renders the container for a class and a spec."""

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
    """Render the browser that `cls` asks for. Raises InvalidSpec with the field if the flavor does not support a value."""
    return _RENDERERS[cls.browser.flavor](storage, cls)
