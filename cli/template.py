"""`leadstream template …`: the message template of a lead ad, made and checked before Ads Manager sees it."""

import json
from collections.abc import Sequence

import click

from cli.terminal import say
from messenger import limits
from messenger.events import AppId
from messenger.template import Finding, check_template, new_template
from operations.environment import current_settings

# A template of ten elements with three buttons each, every text at its limit and escaped, is a tenth of it.
_MAX_BYTES = 2**20


@click.group()
def command() -> None:
    """Make or check the message template of a lead ad.

    \b
    Example:
      leadstream template check template.json
    """


@command.command()
@click.option("--app", metavar="ID", help="The app that gets the leads.  [default: LEADSTREAM_APP_ID]")
@click.option("--text", required=True, help="What the ad's first message says.")
@click.option(
    "--days",
    type=click.IntRange(1, limits.THREAD_CONTROL_MAX.days),
    default=limits.THREAD_CONTROL_MAX.days,
    show_default=True,
    help="How long the app keeps the thread.",
)
@click.option("--button", "buttons", metavar="TITLE=URL|PAYLOAD", multiple=True, help="A button; can be repeated.")
@click.option(
    "--question",
    "questions",
    metavar="TEXT[=ANSWER|ANSWER…]",
    multiple=True,
    help="A question and the answers to tap; can be repeated.",
)
def new(*, app: str | None, text: str, days: int, buttons: Sequence[str], questions: Sequence[str]) -> None:
    """Print a template that hands its leads to our app, for the JSON field of Ads Manager.

    \b
    Example:
      leadstream template new --app 1278416343931139 --days 4 --text "How can we help you?" \\
        --button "Our shop=https://example.com/" --button "Tell me more=MORE" \\
        --question "Are you interested in becoming a reseller?=Yes|No" > template.json
    """
    app_id = app or current_settings().app_id
    if app_id is None or not (app_id.isascii() and app_id.isdigit()) or app_id.startswith("0"):
        raise click.ClickException("an app id is wanted: --app or LEADSTREAM_APP_ID, a number")
    made = new_template(
        text,
        app_id=AppId(app_id),
        days=days,
        buttons=[_button(one) for one in buttons],
        questions=[_question(one) for one in questions],
    )
    written = json.dumps(made, ensure_ascii=False, indent=4)
    faults = [one for one in check_template(written) if one.severity == "fault"]
    if faults:
        raise click.ClickException("; ".join(f"{one.key}: {one.what}" for one in faults))
    say(written)


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def check(*, file: str) -> None:
    """Check a template against Meta's limits: each fault with its line and key. `-` reads standard input.

    Ends with 1 when Meta would refuse it or silently take something else for it. Warnings alone end with 0.

    \b
    Example:
      leadstream template check template.json
    """
    our_app = current_settings().app_id
    text = _read(file)
    findings = check_template(text, our_app=None if our_app is None else AppId(our_app))
    for finding in findings:
        say(_line(file, finding))
    faults = sum(finding.severity == "fault" for finding in findings)
    if faults:
        raise click.ClickException(f"{faults} to mend in {file}")
    say(f"{file} keeps Meta's limits")


def _read(file: str) -> str:
    try:
        with click.open_file(file, "rb") as opened:
            content: bytes = opened.read(_MAX_BYTES + 1)
    except OSError as fault:
        raise click.ClickException(f"{file}: {fault.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise click.ClickException(f"{file}: more than 1 MiB, which is no message template")
    try:
        # The mark that Windows editors put before a text is none of the text.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: is not UTF-8 text") from None


def _line(file: str, finding: Finding) -> str:
    key = f" {finding.key}:" if finding.key else ""
    return f"{file}:{finding.line}: {finding.severity}:{key} {finding.what}"


def _button(given: str) -> dict[str, str]:
    title, found, target = given.partition("=")
    if not found:
        raise click.BadParameter(f"{given!r}: TITLE=URL or TITLE=PAYLOAD is wanted", param_hint="--button")
    if target.startswith(("https://", "http://")):
        return {"type": "web_url", "title": title, "url": target}
    return {"type": "postback", "title": title, "payload": target}


def _question(given: str) -> tuple[str, list[str]]:
    text, _, answers = given.partition("=")
    return text, answers.split("|") if answers else []
