"""Charts as SVG. Colours come from the style sheet by class; each figure also stands as text beside the chart."""

from collections.abc import Sequence
from datetime import date

from markupsafe import Markup

_WIDTH, _HEIGHT = 1000, 100


def funnel_step(share: float, next_share: float) -> Markup:
    """One step of a funnel: as wide as its share of the whole at the top, and as the next one's at the bottom."""
    top, bottom = (_WIDTH * min(max(part, 0.0), 1.0) for part in (share, next_share))
    corners = (
        ((_WIDTH - top) / 2, 0),
        ((_WIDTH + top) / 2, 0),
        ((_WIDTH + bottom) / 2, _HEIGHT),
        ((_WIDTH - bottom) / 2, _HEIGHT),
    )
    points = " ".join(f"{x:.1f},{y}" for x, y in corners)
    return _svg(Markup('<polygon points="{}"/>').format(points), "funnel-step")


def days_chart(days: Sequence[tuple[date, int, int]]) -> Markup:
    """For each day its leads as a bar, and those followed up as a darker bar in it."""
    most, width = max((leads for _, leads, _ in days), default=0) or 1, _WIDTH / max(len(days), 1)
    shapes = Markup("").join(
        Markup("<g><title>{}: {} leads, {} followed up</title>{}{}</g>").format(
            day.isoformat(),
            leads,
            followed_up,
            _column("all", width * number, width, leads / most),
            _column("part", width * number, width, followed_up / most),
        )
        for number, (day, leads, followed_up) in enumerate(days)
    )
    return _svg(shapes, "days")


def _column(css: str, left: float, width: float, share: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        css, left + width * 0.1, _HEIGHT * (1 - share), width * 0.8, _HEIGHT * share
    )


def _svg(shapes: Markup, css: str) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>').format(
        css, _WIDTH, _HEIGHT, shapes
    )


def bar(share: float) -> Markup:
    """A bar of this share of the width."""
    return _svg(Markup('<rect width="{:.1f}" height="{}"/>').format(_WIDTH * share, _HEIGHT), "bar")
