"""Under which names a tag is published."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from manifests.render import ROOT

REGISTRY = "ghcr.io"


@dataclass(frozen=True)
class Plan:
    """What the workflow of a release has to know of its tag."""

    version: str
    repository: str
    """Of the image, such as ghcr.io/owner/name. Registries know no capital letters."""
    charts: str
    """Where charts are pushed to, such as oci://ghcr.io/owner/charts."""
    prerelease: bool
    latest: bool
    """Whether users who name no version shall get this one: not a pre-release, and not a fix of an older minor version."""

    def lines(self) -> list[str]:
        """Return one line for each output of the workflow's step."""
        values = {
            "version": self.version,
            "repository": self.repository,
            "charts": self.charts,
            "prerelease": str(self.prerelease).lower(),
            "latest": str(self.latest).lower(),
        }
        return [f"{name}={value}" for name, value in values.items()]


def plan(tag: str, repository: str, tags: Iterable[str], own: str) -> Plan:
    """Return the plan for `tag` of the GitHub repository owner/name. `tags` are all tags, `own` is the version in the sources.

    Raises ValueError if the tag is no version, or not that of the sources.
    """
    if tag != f"v{own}":
        raise ValueError(f"{tag}: the version in pyproject.toml is {own}; the tag must be v{own}")
    version = _version(tag)
    if version is None:
        raise ValueError(f"{tag}: must be a version such as v1.4.2 or v1.5.0-rc.1")
    final = [found for found in map(_version, tags) if found is not None and not found.is_prerelease]
    latest = not version.is_prerelease and all(found <= version for found in final)
    name = f"{REGISTRY}/{repository.lower()}"
    charts = f"oci://{name.rpartition('/')[0]}/charts"
    return Plan(own, name, charts, version.is_prerelease, latest)


def tags() -> list[str]:
    """Return the tags of this checkout."""
    done = subprocess.run(["git", "tag", "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def _version(tag: str) -> Version | None:
    """Return the version that a tag names; None if it names none."""
    try:
        return Version(tag.removeprefix("v")) if tag.startswith("v") else None
    except InvalidVersion:
        return None
