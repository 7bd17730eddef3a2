"""docs/metrics.md: every metric with its kind, its labels and its meaning."""

import ast
import inspect
import re
from collections.abc import Iterator

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


def metrics_page() -> str:
    return f"{_INTRODUCTION}\n{table(('Metric', 'Kind', 'Labels', 'Meaning'), _rows())}\n"


def _rows() -> Iterator[tuple[str, str, str, str]]:
    comment: list[str] = []
    for line in map(str.strip, inspect.getsource(Metrics.__init__).splitlines()):
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if definition := _DEFINITION.fullmatch(line):
            name, _, *labels = ast.literal_eval(definition["arguments"])
            shown = ", ".join(f"`{label}`" for label in labels)
            yield f"`leadstream_{name}{_SUFFIX[definition['kind']]}`", definition["kind"], shown, " ".join(comment)
        comment = []
