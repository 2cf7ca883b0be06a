"""Custom: any image that serves files over HTTP. It is told where it is and what to serve; the rest is its own."""

from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, AuthMode, Permissions, UserStorageClass
from userstorage_operator.api.variables import expand
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Raises InvalidSpec for what nobody can promise of an unknown program: a login, permissions."""
    browser = cls.browser
    if browser.image is None:
        raise InvalidSpec("class spec.browser.image: flavor Custom has no image of its own; name one")
    if cls.auth_mode is not AuthMode.NONE:
        raise InvalidSpec("class spec.auth.mode: flavor Custom cannot check a proxy header; it needs None, acknowledged")
    _refuse_permissions(browser.permissions)
    base_path = expand(browser.base_path, storage)
    page = probes.http(browser.health_path or base_path, browser.port)
    where = {
        "USERSTORAGE_ROOT": FILES_MOUNT,
        "USERSTORAGE_PORT": str(browser.port),
        "USERSTORAGE_BASE_PATH": base_path,
    }
    return Browser(
        image=browser.image,
        command=browser.command,
        args=browser.args,
        env=environment(where, browser),
        startup_probe=probes.startup(page),
        # All that can be asked of an unknown program; whether this page reads the volume is up to the image.
        readiness_probe=probes.readiness(page),
        # The page of files may fail with the volume, which no restart mends; an open port does not.
        liveness_probe=probes.liveness(page if browser.health_path else probes.tcp(browser.port)),
        default_resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        scratch=(Scratch("tmp", "/tmp", "256Mi"),),  # noqa: S108  # in the pod
    )


def _refuse_permissions(wanted: Permissions) -> None:
    for name in Permissions.__dataclass_fields__:
        default = getattr(BUILT_IN.browser.permissions, name)
        if getattr(wanted, name) != default:
            raise InvalidSpec(
                f"class spec.browser.permissions.{name}: flavor Custom cannot enforce permissions; leave it {str(default).lower()}"
            )
