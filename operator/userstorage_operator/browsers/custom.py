"""Custom: any image that serves files over HTTP. Environment variables give it root directory, port and base path."""

from userstorage_operator.api import variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, AuthMode, Permissions, UserStorageClass
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of a pod that runs the image of the class.

    Raises InvalidSpec if the class names no image, or asks for authentication or permissions, which an unknown program may not
    enforce.
    """
    browser = cls.browser
    if browser.image is None:
        raise InvalidSpec("class spec.browser.image: flavor Custom has no default image; set one")
    if cls.auth_mode is not AuthMode.NONE:
        raise InvalidSpec(
            "class spec.auth.mode: flavor Custom cannot check a proxy header; set None and acknowledgeUnauthenticated"
        )
    _refuse_permissions(browser.permissions)
    base_path = variables.base_path(storage, cls)
    health_path = variables.health_path(storage, cls)
    page = probes.http(health_path or base_path, browser.port)
    own = {
        "USERSTORAGE_ROOT": FILES_MOUNT,
        "USERSTORAGE_PORT": str(browser.port),
        "USERSTORAGE_BASE_PATH": base_path,
    }
    return Browser(
        image=browser.image,
        command=browser.command,
        args=browser.args,
        env=environment(own, browser),
        startup_probe=probes.startup(page),
        # No better probe is known for an unknown program; whether this page reads the volume depends on the image.
        readiness_probe=probes.readiness(page),
        # Without a health path, probe only the port: the page may fail because of the volume, which a restart does not repair.
        liveness_probe=probes.liveness(page if health_path else probes.tcp(browser.port)),
        default_resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        scratch=(Scratch("tmp", "/tmp", "256Mi"),),  # noqa: S108  # in the pod
    )


def _refuse_permissions(permissions: Permissions) -> None:
    for name in Permissions.__dataclass_fields__:
        default = getattr(BUILT_IN.browser.permissions, name)
        if getattr(permissions, name) != default:
            value = str(default).lower()
            raise InvalidSpec(
                f"class spec.browser.permissions.{name}: flavor Custom cannot enforce permissions; leave it {value}"
            )
