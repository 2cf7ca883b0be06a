"""File Browser Quantum, the maintained fork, behind an authenticating proxy or without login. One YAML file configures it.

Quantum 1.5 and 2.0 have different names for the same settings, and each exits at once on a name that it does not know. The tag
of the image decides which names are written, as nothing else is known about an image before it runs.
"""

import json
import re
from typing import Any

from userstorage_operator.api import variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import AuthMode, UserStorageClass
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment, go_memory_limit

IMAGE = "docker.io/gtstef/filebrowser:1.5.6-stable"
_PROGRAM = "/home/filebrowser/filebrowser"
_STATE = "/database"
_RESOURCES = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_CONFIG = f"{_STATE}/config.yaml"
_DATABASE_VARIABLE = {1: "FILEBROWSER_DATABASE", 2: "FILEBROWSER_DATABASE_PATH"}
"""Major version -> variable with the path of the database. Version 2 exits at once if the variable of version 1 is set."""
_MAJOR = re.compile(r":v?([0-9]+)(?:[.-][^/:]*)?$")
_RANDOM = "@random@"
"""Placeholder in the configuration for a random word that the init container generates."""

_OWNERS = "/owners"
_DIRECTORY_NAME = re.compile(r"(?!-$)(?!.*\.\.)(?!\.$)[^/:]+")
"""User ids that are the name of one directory, for Quantum and as a mount path."""

Config = dict[str, Any]


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of a pod that runs Quantum. Users, settings and index are deleted with the pod."""
    browser = cls.browser
    image = browser.image or IMAGE
    major = _major(image)
    base_path = variables.base_path(storage, cls)
    # Other paths redirect, and a probe counts a redirect as success.
    health = variables.health_path(storage, cls) or f"{base_path}health"
    own = {
        "FILEBROWSER_CONFIG": _CONFIG,
        _DATABASE_VARIABLE[major]: f"{_STATE}/quantum.db",
        **go_memory_limit(browser.resources or _RESOURCES),
    }
    return Browser(
        image=image,
        command=browser.command or (_PROGRAM,),
        args=browser.args,
        env=environment(own, browser),
        init_command=_configure(_config(major, base_path, storage, cls)),
        startup_probe=probes.startup(probes.http(health, browser.port)),
        readiness_probe=probes.readiness(probes.sees_volume(health, browser.port)),
        liveness_probe=probes.liveness(probes.http(health, browser.port)),
        default_resources=_RESOURCES,
        owner_mount=f"{_OWNERS}/{storage.user_id}" if _has_owner_directory(storage, cls) else None,
        # Archives are assembled in /tmp before they are sent.
        scratch=(Scratch("database", _STATE, "64Mi"), Scratch("tmp", "/tmp", "2Gi")),  # noqa: S108  # in the pod
    )


def _major(image: str) -> int:
    """Return Quantum's major version from the tag of `image`. Raises InvalidSpec if the tag does not start with 1 or 2."""
    found = _MAJOR.search(image.partition("@")[0])
    if found is None or int(found[1]) not in _DATABASE_VARIABLE:
        raise InvalidSpec(
            f"class spec.browser.image: flavor Quantum needs the major version, 1 or 2, in the tag, and {image!r} does not"
            " have it; use a tag such as 1.5.6-stable or 1.5.6-stable@sha256:…"
        )
    return int(found[1])


def _configure(config: Config) -> tuple[str, ...]:
    """Return the init container's command, which writes `config` to a file, as JSON and thus as valid YAML.

    The command replaces each placeholder by a random word. Quantum makes a user an administrator if the proxy sends the
    administrator's name, so that name must be secret. It is generated in the pod, so it does not change the pod's hash. The
    command first deletes the state of an earlier run: after a reboot of the node the init container runs again.
    """
    script = (
        f"set -e; rm -rf {_STATE}/*; word=; "
        'for part; do printf %s "$word$part"; read -r word </proc/sys/kernel/random/uuid; done '
        f">{_CONFIG}"
    )
    return ("/bin/sh", "-c", script, "configure", *json.dumps(config, sort_keys=True).split(_RANDOM))


def _has_owner_directory(storage: UserStorage, cls: UserStorageClass) -> bool:
    """Whether the files are in a directory with the name of the owner.

    Quantum then creates such a directory for any other name that the proxy sends, which the read-only root refuses, and so this
    name gets no files. It cuts `..` and resolves the rest as a path: `../alice` is alice, too.
    """
    return cls.auth_mode is AuthMode.PROXY_HEADER and _DIRECTORY_NAME.fullmatch(storage.user_id) is not None


def _config(major: int, base_path: str, storage: UserStorage, cls: UserStorageClass) -> Config:
    """Return the whole configuration, with the setting names of Quantum version `major`: Quantum exits on an unknown name."""
    files, account = _permissions(storage, cls)
    listen: Config = {"port": cls.browser.port, "baseURL": base_path}
    source: Config = {"defaultEnabled": True, "private": not cls.browser.permissions.share}
    if storage.storage.read_only:
        source["readOnly"] = True
    path = FILES_MOUNT
    if _has_owner_directory(storage, cls):
        path, source["createUserDir"] = _OWNERS, True
    server: Config = {
        "sources": [{"path": path, "name": "files", "config": source}],
        "cacheDir": "/tmp/cache",  # noqa: S108  # in the pod
        # A photo of 48 megapixels takes half a gigabyte to resize, and the cache of the results has no limit.
        "disablePreviews": True,
        "maxArchiveSize": 1,
        "disableUpdateCheck": True,
    }
    if major == 1:
        defaults = {"permissions": files | account}
        return {"server": server | listen, "auth": _auth(major, cls), "userDefaults": defaults}
    source["defaultPermissions"] = files | {"view": True}
    defaults = {"account": {"permissions": account}}
    return {"http": listen, "server": server, "auth": _auth(major, cls), "userDefaults": defaults}


def _auth(major: int, cls: UserStorageClass) -> Config:
    """Return the section `auth` of the configuration.

    Password login is always off. A random password is set anyway, because the default password is public.
    """
    methods: Config = {"password": {"enabled": False}}
    if cls.auth_mode is AuthMode.NONE:
        return {"adminUsername": "visitor", "adminPassword": _RANDOM, "methods": methods | {"noauth": True}}
    proxy: Config = {"enabled": True, "header": cls.auth_header}
    if major == 1:
        proxy["createUser"] = True  # later versions always do
    return {"adminUsername": _RANDOM, "adminPassword": _RANDOM, "methods": methods | {"proxy": proxy}}


def _permissions(storage: UserStorage, cls: UserStorageClass) -> tuple[Config, Config]:
    """Return the file permissions and the account permissions of a new user. Raises InvalidSpec if Quantum lacks them."""
    permissions = cls.browser.permissions
    if permissions.modify != permissions.rename:
        raise InvalidSpec(
            "class spec.browser.permissions.rename: flavor Quantum cannot distinguish rename and modify; set both alike"
        )
    files = {name: getattr(permissions, name) for name in ("create", "modify", "delete", "download")}
    if cls.auth_mode is AuthMode.NONE:
        for name, allowed in files.items():
            if not allowed:
                raise InvalidSpec(
                    f"class spec.browser.permissions.{name}: flavor Quantum makes every visitor an administrator if"
                    " auth.mode is None, so it cannot forbid this; use ProxyHeader"
                )
    if storage.storage.read_only:
        files |= {"create": False, "modify": False, "delete": False}
    return files, {"admin": False, "api": False, "share": permissions.share, "realtime": False}
