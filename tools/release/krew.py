"""The archive that krew installs, and the manifest that names it."""

import gzip
import hashlib
import io
import tarfile

import yaml

from manifests.render import ROOT

ARCHIVE = "kubectl-userstorage-krew.tar.gz"
PACKAGE = ROOT / "packages/kubectl-userstorage"


def archive() -> bytes:
    """Return a tar.gz of the launchers and the licence: the same bytes for the same files."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in (*sorted((PACKAGE / "krew").iterdir()), ROOT / "LICENSE"):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = len(content), 0o644 if path.name == "LICENSE" else 0o755
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(tarred.getvalue(), mtime=0)


def manifest(version: str, repository: str, archived: bytes) -> str:
    """Return the krew manifest of a release of the repository `owner/name` on GitHub, whose archive is `archived`."""
    document = yaml.safe_load((PACKAGE / "krew.yaml").read_text(encoding="utf-8"))
    homepage = f"https://github.com/{repository}"
    document["spec"] = {"version": f"v{version}", "homepage": homepage, **document["spec"]}
    source = {
        "uri": f"{homepage}/releases/download/v{version}/{ARCHIVE}",
        "sha256": hashlib.sha256(archived).hexdigest(),
    }
    document["spec"]["platforms"] = [{**platform, **source} for platform in document["spec"]["platforms"]]
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)
