"""The pages that the gate shows to people, in less than 4 KiB and without a script."""

import html

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 15vh auto; max-width: 36rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; background: #fff }}
dt {{ color: #666 }} dd {{ margin: 0 0 .5rem }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #1b1b1b }} dt {{ color: #999 }} }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{text}</p>
{facts}</body>
</html>
"""


def page(title: str, text: str, facts: dict[str, str]) -> bytes:
    """Return an HTML page with a heading, a sentence and a list of facts. All texts are escaped; facts without a value are left out."""
    entries = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>\n" for name, value in facts.items() if value)
    listed = f"<dl>\n{entries}</dl>\n" if entries else ""
    return _PAGE.format(title=html.escape(title), text=html.escape(text), facts=listed).encode()
