"""docs/metrics.md: every metric with its kind, its labels and its meaning."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from docs.markdown import table
from runtime.metrics import Metrics

_INTRODUCTION = """\
# Metrics

Made by `make docs` from `runtime/metrics.py`; do not edit.

Each process serves its metrics under `/metrics` on its admin port, in Prometheus' text format. No label holds a
person's id, a token or a person's text.
"""
_DEFINITION = re.compile(r"self\.\w+ = self\._(?P<kind>counter|gauge|histogram)(?P<arguments>\(.*\))")
_SUFFIX = {"counter": "_total", "gauge": "", "histogram": ""}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus names it; `title` is its help text and `meaning` the comment before its definition."""

    name: str
    kind: str
    labels: tuple[str, ...]
    title: str
    meaning: str


def metrics_page() -> str:
    rows = (
        (f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.meaning)
        for metric in metrics()
    )
    return f"{_INTRODUCTION}\n{table(('Metric', 'Kind', 'Labels', 'Meaning'), rows)}\n"


def metrics() -> Iterator[Metric]:
    """Every metric, in the order of the table."""
    comment: list[str] = []
    for line in map(str.strip, inspect.getsource(Metrics.__init__).splitlines()):
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if definition := _DEFINITION.fullmatch(line):
            name, title, *labels = ast.literal_eval(definition["arguments"])
            kind = definition["kind"]
            yield Metric(f"leadstream_{name}{_SUFFIX[kind]}", kind, tuple(labels), title, " ".join(comment))
        comment = []
