"""Counts answers in the warehouse's Delta tables with Polars: `pip install polars`.

python examples/query_polars.py .leadstream/warehouse
"""

import sys
from pathlib import Path

import polars as pl  # type: ignore[import-not-found, unused-ignore] # not among leadstream's own dependencies


def answer_counts(warehouse: Path) -> list[tuple[str, str, int]]:
    """Question, answer and how many leads gave it, the most frequent first."""
    newest = pl.scan_delta(str(warehouse / "lead_events")).sort("revision").group_by("lead_id").last()
    answers = newest.select(pl.col("answers").explode()).drop_nulls().unnest("answers")
    counted = (
        answers.group_by("question", "answer").len().sort("len", "question", "answer", descending=[True, False, False])
    )
    return [(question, answer, count) for question, answer, count in counted.collect().iter_rows()]


def main() -> None:
    for question, answer, count in answer_counts(Path(sys.argv[1] if len(sys.argv) > 1 else ".leadstream/warehouse")):
        print(f"{count:>6}  {question} {answer}")  # noqa: T201


if __name__ == "__main__":
    main()
