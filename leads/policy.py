"""What the join goes by on a person's Page."""

from dataclasses import dataclass

from leads.pages import Page
from leads.rules import Rule

Rules = tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided for the Page, and whether Meta blocks it at the moment that is looked at."""

    page: Page
    rules: Rules
    is_blocked: bool = False
