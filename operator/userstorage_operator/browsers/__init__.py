"""The file browsers, one module per flavor. Each renders the parts of the pod that depend on the program.

To add a flavor, write its module with `render`, and add it to `_RENDERERS`, to `Flavor` in `api/userstorageclass.py`, to the
enum in deploy/crds, and with its image to `deploy/admission/class-images.yaml`.
"""

from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Flavor, UserStorageClass
from userstorage_operator.browsers import copyparty, custom, dufs, filebrowser, quantum
from userstorage_operator.browsers.browser import Browser

_RENDERERS = {
    Flavor.FILE_BROWSER: filebrowser.render,
    Flavor.QUANTUM: quantum.render,
    Flavor.COPYPARTY: copyparty.render,
    Flavor.DUFS: dufs.render,
    Flavor.CUSTOM: custom.render,
}


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of the pod that depend on the flavor of `cls`.

    Raises InvalidSpec, naming the field, if the flavor cannot do what the class asks for.
    """
    return _RENDERERS[cls.browser.flavor](storage, cls)
