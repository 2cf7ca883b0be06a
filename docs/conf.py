"""The configuration of the documentation site, which `make docs` builds with Sphinx, MyST and Furo.

The source directory is the repository, so that links of documents are the same there and on the site.
"""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "UserStorage"
author = "The UserStorage authors"
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/decisions/*.md",
    "docs/*.png",
    "docs/*.svg",
    "changes/README.md",
    "charts/*/README.md",
    "examples/README.md",
    "packages/*/README.md",
    "benchmarks/results/*.md",
    "tests/*/results/*.md",
    "*.md",
]
exclude_patterns = ["README.md"]  # docs/index.md has its place

extensions = ["myst_parser"]
myst_heading_anchors = 4  # the anchors of GitHub
nitpicky = True
suppress_warnings = ["toc.no_title"]  # results of benchmarks and tests, which only the pages with their figures link to

html_theme = "furo"
html_title = "UserStorage"
html_extra_path = ["redirect"]  # the front page of the site leads to root_doc
html_copy_source = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Show the source of Mermaid diagrams: to draw them, a page would load a script from elsewhere."""
    app.add_lexer("mermaid", TextLexer)
