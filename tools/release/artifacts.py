"""Writes the files of a release that need no registry."""

import hashlib
import importlib
import json
import pkgutil
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from chart.helm import helm
from chart.templates import CHART
from localcluster.progress import Report
from manifests.render import ROOT, Object, render
from monitoring.rules import FOLDER, published_groups
from release import krew
from release.notes import notes
from userstorage_operator import browsers
from userstorage_operator.plan.pod_builder import DIRECTORY_IMAGE

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
_OWN = f"userstorage-operator:{VERSION}"
"""The image in `deploy/`."""
_REFERENCE = re.compile(r"(?P<repository>[^@]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?")


@dataclass(frozen=True)
class Image:
    """The reference of the operator's image, such as registry.example.org/operator:0.1.0@sha256:…, in parts."""

    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> "Image":
        """Return the parts of a reference. Raises ValueError if it has neither tag nor digest."""
        found = _REFERENCE.fullmatch(reference)
        if found is None or not (found["tag"] or found["digest"]):
            raise ValueError(f"{reference}: an image needs a tag or a digest")
        return cls(found["repository"], found["tag"] or VERSION, found["digest"] or "")

    def __str__(self) -> str:
        """Return the whole reference."""
        return f"{self.repository}:{self.tag}{f'@{self.digest}' if self.digest else ''}"


def write(image: Image, repository: str, directory: Path, report: Report) -> None:
    """Write all files of the release of the repository `owner/name` into `directory`, which is emptied first.

    Raises ClusterError if Helm cannot be built.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    krew_archive = krew.archive()
    texts = {
        "install.yaml": _manifest("deploy", image),
        "crds.yaml": _manifest("deploy/crds", image),
        "uninstall.yaml": _manifest("deploy/uninstall", image),
        "images.txt": "".join(f"{each}\n" for each in images(image)),
        "prometheus-rules.yaml": yaml.safe_dump({"groups": published_groups()}, sort_keys=False, width=120, allow_unicode=True),
        "dashboard.json": (FOLDER / "dashboard.json").read_text(encoding="utf-8"),
        "krew.yaml": krew.manifest(VERSION, repository, krew_archive),
        "release-notes.md": f"{notes(VERSION)}\n",
    }
    (directory / krew.ARCHIVE).write_bytes(krew_archive)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    _package_chart(image, directory, report)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(directory.iterdir())]
    (directory / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def images(image: Image) -> list[str]:
    """Return every image that nodes pull: that of the operator, those of the flavors, and the one that creates directories."""
    modules = (importlib.import_module(f"{browsers.__name__}.{each.name}") for each in pkgutil.iter_modules(browsers.__path__))
    return [str(image), *sorted({DIRECTORY_IMAGE, *(module.IMAGE for module in modules if hasattr(module, "IMAGE"))})]


def _manifest(directory: str, image: Image) -> str:
    objects = render(directory)
    for container in _containers(objects):
        if container["image"] == _OWN:
            container["image"] = str(image)
    header = f"# UserStorage operator {VERSION}: {directory}/\n"
    return header + yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True)


def _containers(objects: Iterable[Object]) -> list[Object]:
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] in {"Deployment", "Job"}]
    return [container for pod in pods for container in pod["containers"]]


def with_value(text: str, path: Sequence[str], value: str) -> str:
    """Return a YAML document with another value at `path`, and everything else, comments too, as it was.

    Raises ValueError if the document has no scalar there.
    """
    node = yaml.compose(text)
    for name in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        node = next((below for key, below in entries if key.value == name), None)
    scalar = node if isinstance(node, yaml.ScalarNode) else None
    if scalar is None:
        raise ValueError(f"{'.'.join(path)}: is no scalar of the document")
    return text[: scalar.start_mark.index] + json.dumps(value) + text[scalar.end_mark.index :]


def _package_chart(image: Image, directory: Path, report: Report) -> None:
    """Write the chart, with the image of the release in its values, as a package."""
    with tempfile.TemporaryDirectory() as temporary:
        chart = Path(temporary) / CHART.name
        shutil.copytree(CHART, chart)
        values = chart / "values.yaml"
        text = values.read_text(encoding="utf-8")
        for name, value in (("repository", image.repository), ("tag", image.tag), ("digest", image.digest)):
            text = with_value(text, ("image", name), value)
        values.write_text(text, encoding="utf-8")
        helm("package", str(chart), f"--destination={directory}", report=report)
