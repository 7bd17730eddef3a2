"""`leadstream template …`: the message template of a lead ad, made and checked before Ads Manager sees it."""

import json
from collections.abc import Sequence

import click

from cli.terminal import print_json, say
from messenger import limits
from messenger.events import AppId
from messenger.template import Finding, check_template, new_template
from operations.deployment import current_settings
from operations.reporting import OperationError

# Ten times a template of ten elements with three buttons each, every text at its limit and escaped.
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
@click.option("--text", required=True, help="The text of the ad's first message.")
@click.option(
    "--days",
    type=click.IntRange(1, limits.THREAD_CONTROL_MAX.days),
    default=limits.THREAD_CONTROL_MAX.days,
    show_default=True,
    help="How many days the app keeps the thread.",
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
    """Print a template that hands its leads to our app.

    It goes into the JSON field of Ads Manager.

    \b
    Example:
      leadstream template new --app 1278416343931139 --days 4 \\
        --text "How can we help you?" --button "Tell me more=MORE" \\
        --question "Do you want to become a reseller?=Yes|No" > template.json
    """
    app_id = app or current_settings().app_id
    if app_id is None or not (app_id.isascii() and app_id.isdigit()) or app_id.startswith("0"):
        raise OperationError("expected an app id, a number, in --app or LEADSTREAM_APP_ID")
    made = new_template(
        text,
        app_id=AppId(app_id),
        days=days,
        buttons=[_button(text) for text in buttons],
        questions=[_question(text) for text in questions],
    )
    written = json.dumps(made, ensure_ascii=False, indent=4)
    faults = [finding for finding in check_template(written) if finding.severity == "fault"]
    if faults:
        raise OperationError("; ".join(f"{fault.key}: {fault.what}" for fault in faults))
    print_json(written)


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def check(*, file: str) -> None:
    """Check a template against Meta's limits; `-` reads standard input.

    Prints each fault with its line and key. Ends with 1 when Meta would refuse the template or silently change it.
    Warnings alone end with 0.

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
        raise OperationError(f"{faults} to fix in {file}")
    say(f"{file} keeps Meta's limits")


def _read(file: str) -> str:
    try:
        with click.open_file(file, "rb") as opened:
            content: bytes = opened.read(_MAX_BYTES + 1)
    except OSError as fault:
        raise OperationError(f"{file}: {fault.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise OperationError(f"{file}: larger than 1 MiB, the limit for a message template")
    try:
        # Windows editors put a byte order mark before the text.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OperationError(f"{file} is not UTF-8 text") from None


def _line(file: str, finding: Finding) -> str:
    key = f" {finding.key}:" if finding.key else ""
    return f"{file}:{finding.line}: {finding.severity}:{key} {finding.what}"


def _button(text: str) -> dict[str, str]:
    title, sign, target = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r}: expected TITLE=URL or TITLE=PAYLOAD", param_hint="--button")
    if target.startswith(("https://", "http://")):
        return {"type": "web_url", "title": title, "url": target}
    return {"type": "postback", "title": title, "payload": target}


def _question(text: str) -> tuple[str, list[str]]:
    question, _, answers = text.partition("=")
    return question, answers.split("|") if answers else []
