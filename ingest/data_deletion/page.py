"""The status page of a data-deletion request, for the person who made it."""

import base64
import hashlib
from datetime import datetime
from html import escape
from string import Template

from messenger.data_deletion import DeletionRequest

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5b616a; --ground: #f2f4f7; --card: #fff; --line: #d9dde3;
  --done: #1a7f42; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a3a9b3; --ground: #15171a; --card: #1f2226;
  --line: #383d44; --done: #57c785; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--ground); color: var(--ink); line-height: 1.5;
  font-family: system-ui, sans-serif; }
main { max-width: 34rem; margin: 0 auto; padding: 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; }
h1 { margin: 0 0 .25rem; font-size: 1.35rem; line-height: 1.25; }
p { margin: .75rem 0 0; }
ol { list-style: none; margin: 1.25rem 0; padding: 0; }
li { position: relative; margin: 0; padding: 0 0 1rem 2rem; color: var(--soft); }
li:last-child { padding-bottom: 0; }
li::before { content: ""; position: absolute; left: .25rem; top: .35rem; width: .75rem; height: .75rem;
  border: 2px solid var(--line); border-radius: 50%; background: var(--card); }
li.done, li.now { color: var(--ink); }
li.done::before { border-color: var(--done); background: var(--done); }
li.now::before { border-color: var(--done); }
li span { display: block; color: var(--soft); font-size: .9rem; }
code { font-size: .9rem; overflow-wrap: anywhere; }
""".strip()

# The browser may show the page with this style, and nothing else; no site may frame it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$heading</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$heading</h1>
$body
</main>
</body>
</html>
""")

_RESOLUTIONS = {
    "erased": ("Deleted", "What we held about you has been deleted."),
    "nothing_held": ("Closed", "We looked, and we hold no data that can be connected to you."),
}


def status_page(request: DeletionRequest) -> str:
    """The progress of the request: received, in work, resolved. It never shows whose request it is."""
    resolved_at = request.resolved_at
    last, text = _RESOLUTIONS.get(request.resolution or "", ("Deleted", "It has been dealt with."))
    if resolved_at is None:
        last, text = "Done", "We have received it and are working on it. You need not do anything more."
    return _page(
        "Your data deletion request",
        f"<p>{text}</p>\n<ol>\n"
        f"{_step('done', 'Received', request.requested_at)}\n"
        f"{_step('done' if resolved_at else 'now', 'Being worked on')}\n"
        f"{_step('done' if resolved_at else 'later', last, resolved_at)}\n"
        f"</ol>\n<p>Confirmation code: <code>{escape(request.code)}</code></p>",
    )


def unknown_page() -> str:
    return _page(
        "No such request",
        "<p>We know no data deletion request with this confirmation code. If you have only just sent yours, look again "
        "in a minute; otherwise compare the address with the one that you were given.</p>",
    )


def unavailable_page() -> str:
    return _page(
        "Please look again later",
        "<p>The state of data deletion requests cannot be looked up at the moment. Yours is not lost: a "
        "request with a confirmation code is kept.</p>",
    )


def _page(heading: str, body: str) -> str:
    return _PAGE.substitute(heading=heading, style=_STYLE, body=body)


def _step(state: str, name: str, at: datetime | None = None) -> str:
    when = f"<span>{at.day} {at:%B %Y, %H:%M} UTC</span>" if at is not None else ""
    current = ' aria-current="step"' if state == "now" else ""
    return f'<li class="{state}"{current}>{name}{when}</li>'
