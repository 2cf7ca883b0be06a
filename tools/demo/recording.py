"""`python -m demo.recording FOLDER`: record the demo for the README, as `demo.svg` and `page.png` in FOLDER.

The commands run as they are in a shell, and the picture of the terminal shows what they print.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from demo import browser, clusters, files, steps
from localcluster import ClusterError
from localcluster.background import Background
from localcluster.packages import Package, ensure_package
from localcluster.progress import Console as Progress

DIRECTORY = steps.ROOT / ".cluster"
COMMANDS = ("make demo", "kubectl get pods,services,networkpolicies -l userstorage.dev/managed-by")
COLUMNS = 124
FONT = Package("fonts-noto-color-emoji", "/usr/share/doc/fonts-noto-color-emoji", "draws the symbols of Copyparty's page")
SHOWN = ("architecture.md", "gate.md", "gateways.md", "install.md", "performance.md", "dashboard.png")
"""Files of docs/ that are uploaded, so that the page is not empty."""
_SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own format without its web font, which a picture in a page may not load."""


def main() -> int:
    """Run the demo and write both pictures. Return 1 if a demo already runs, or if a command fails; else 0."""
    parser = argparse.ArgumentParser(prog="demo.recording", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder.absolute()
    report = Progress(sys.stderr)
    if DIRECTORY.exists():
        print(f"{DIRECTORY} exists: run `make demo-down` first", file=sys.stderr)
        return 1
    try:
        ensure_package(FONT, report)
        _record_terminal(folder / "demo.svg")
        _record_page(folder / "page.png", report)
    except (ClusterError, subprocess.CalledProcessError) as error:
        print(f"recording: {error}", file=sys.stderr)
        return 1
    finally:
        steps.down(DIRECTORY, report)
    return 0


def _record_terminal(picture: Path) -> None:
    """Run COMMANDS and write what they print to `picture`, as SVG. Raises CalledProcessError if one of them fails."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        "KUBECONFIG": str(DIRECTORY / "kubeconfig"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CLUSTER_DIR": DIRECTORY.name,
    }
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, highlight=False)
        for command in COMMANDS:
            done = subprocess.run(
                ["/bin/sh", "-c", command], cwd=steps.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            console.print(Text(done.stdout.strip("\n") + "\n"))
    picture.write_text(console.export_svg(title="UserStorage", code_format=_SVG, unique_id="demo"))


def _record_page(picture: Path, report: Progress) -> None:
    """Upload SHOWN to alice's storage and write a picture of her page. Raises ClusterError if that fails."""
    own = DIRECTORY / "demo"
    cluster = clusters.start(clusters.choose("auto"), DIRECTORY, own, report)
    status = steps.until_ready(cluster.kubectl, Background("operator", own), report, steps.USER)
    url = cluster.service_url(status["serviceName"]) + "/"
    for name in SHOWN:
        files.upload(url + name, (steps.ROOT / "docs" / name).read_bytes())
    browser.take_picture(browser.find_or_install(report), url, SHOWN[0], picture)


if __name__ == "__main__":
    sys.exit(main())
