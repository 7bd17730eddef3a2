"""docs/scaling.md: from a load to partitions, workers, brokers, memory, disk and replay time.

All numbers of the page follow from `FIGURES` and `ASSUMED`; after a benchmark has measured anew, only these change.
"""

from collections.abc import Iterator
from typing import NamedTuple

from docs.markdown import table

_DAY = 24 * 3600
_LOADS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
_YEAR, _MONTH = 365, 30
_COPIES = 3
_DEFAULT_PARTITIONS = 8


class Figure(NamedTuple):
    """A measured number, and the benchmark that measured it."""

    what: str
    value: float
    unit: str
    benchmark: str


class Limit(NamedTuple):
    """The webhooks a day from which something is exhausted, and what to do then."""

    a_day: float
    what: str
    then: str


FIGURES = {
    "ingest": Figure("ingest, one process", 7_000, "webhooks a CPU second", "test_ingest.py"),
    "split": Figure("splitter", 20_000, "webhooks a CPU second", "test_stream_layer.py"),
    "join": Figure("join, of people who come rarely", 5_400, "events a CPU second", "test_growth.py"),
    "broker": Figure("Kafka, from the POST to the lead", 250, "µs of processor time a webhook", "test_volume.py"),
    "base": Figure("a worker that knows nobody", 71, "MB", "test_growth.py"),
    "person": Figure("a person with an open lead, in memory", 950, "bytes", "test_growth.py"),
    "recovery": Figure("reading the changelog, one worker", 300_000, "people a second", "test_growth.py"),
    "raw": Figure("record in `messenger-webhooks`", 600, "bytes", "test_volume.py"),
    "event": Figure("record in `messenger-events`", 310, "bytes", "test_volume.py"),
    "lead": Figure("record in `leads`", 410, "bytes", "test_volume.py"),
    "state": Figure("record in the join's changelog", 760, "bytes", "test_volume.py"),
    "replay": Figure("replay, one process", 2_900, "webhooks a second", "test_replay.py"),
    "warehouse": Figure("warehouse sink, Delta Lake", 80_000, "rows a second", "test_warehouse.py"),
    "postgres": Figure("warehouse sink, PostgreSQL", 32_000, "rows a second", "test_warehouse.py"),
    "ledger": Figure("send sink on one node that syncs", 270, "follow-ups a second", "test_ledger.py"),
}
ASSUMED = {
    "peak": (5, "the busiest minute has 5 times the average"),
    "leads": (10, "10 webhooks for each lead: its signals, and the messages, echoes and receipts around them"),
    "revisions": (3, "3 revisions of a lead, one for each signal"),
    "monthly": (20, "a person whom the join remembers brings 20 webhooks in 30 days, after which they are forgotten"),
    "busy": (0.6, "a process is planned to be 60 % busy at the peak"),
    "worker": (1_000_000, "a worker has at most a million people, so that reading its people takes a few seconds"),
    "cores": (8, "a broker has 8 cores, and a copy costs it half as much as the first"),
    "page": (0.2, "the largest Page has a fifth of the webhooks"),
}


def scaling_page() -> str:
    measured = table(
        ("Figure", "Measured", "By `tests/benchmarks/`"),
        ((figure.what, f"{figure.value:,.0f} {figure.unit}", f"`{figure.benchmark}`") for figure in FIGURES.values()),
    )
    assumed = "\n".join(f"* {meaning};" for _, meaning in ASSUMED.values()).removesuffix(";") + "."
    loads = table(
        (
            "Webhooks a day", "at the peak, a second", "leads a day", "people", "ingest processes", "stream workers",
            "partitions", "brokers", "memory of the join", "raw log a year", "everything else", "replay of a day",
        ),
        map(_row, _LOADS),
    )  # fmt: skip
    return _PAGE.format(measured=measured, assumed=assumed, loads=loads, decades=_decades())


def _value(name: str) -> float:
    return FIGURES[name].value


def _assumed(name: str) -> float:
    return ASSUMED[name][0]


def _peak(a_day: float) -> float:
    return a_day / _DAY * _assumed("peak")


def _a_day(peak: float) -> float:
    return peak / _assumed("peak") * _DAY


def _people(a_day: float) -> float:
    return a_day * _MONTH / _assumed("monthly")


def _stream_cores(a_day: float) -> float:
    return _peak(a_day) * (1 / _value("split") + 1 / _value("join")) / _assumed("busy")


def _workers(a_day: float) -> int:
    return _whole(max(_stream_cores(a_day), _people(a_day) / _assumed("worker")))


def _partitions(a_day: float) -> int:
    """A power of two, two for each worker."""
    return max(_DEFAULT_PARTITIONS, 1 << (2 * _workers(a_day) - 1).bit_length())


def _brokers(a_day: float) -> int:
    """One is enough for the work of a small load; copies need three."""
    cores = _peak(a_day) * _value("broker") / 1e6 * (1 + 0.5 * (_COPIES - 1)) / _assumed("busy")
    return max(_COPIES, _whole(cores / _assumed("cores"))) if _workers(a_day) > 1 else 1


def _row(a_day: int) -> tuple[str, ...]:
    copies = _COPIES if _brokers(a_day) > 1 else 1
    revisions = _assumed("revisions") / _assumed("leads")
    others = (
        _MONTH * a_day * _value("event") + _YEAR * a_day * revisions * _value("lead") + _people(a_day) * _value("state")
    )
    memory = _people(a_day) * _value("person") + _workers(a_day) * _value("base") * 1e6
    return (
        _short(a_day),
        f"{_peak(a_day):,.0f}" if _peak(a_day) >= 1 else "less than 1",
        _short(a_day / _assumed("leads")),
        _short(_people(a_day)),
        str(_whole(_peak(a_day) / _value("ingest") / _assumed("busy"))),
        str(_workers(a_day)),
        str(_partitions(a_day)),
        str(_brokers(a_day)),
        _bytes(memory),
        _bytes(_YEAR * a_day * _value("raw") * copies),
        _bytes(others * copies),
        _duration(a_day / _value("replay")),
    )


def _limits() -> Iterator[Limit]:
    busy = _assumed("busy")
    revisions = _assumed("revisions") / _assumed("leads")
    yield Limit(
        _assumed("worker") * _assumed("monthly") / _MONTH,
        f"memory and takeover of one worker: {_short(_assumed('worker'))} people are "
        f"{_bytes(_assumed('worker') * _value('person'))}, read in {_assumed('worker') / _value('recovery'):.0f} s",
        "`leadstream streams --workers N`, each with its share of the partitions",
    )
    yield Limit(
        _DEFAULT_PARTITIONS / 2 * _assumed("worker") * _assumed("monthly") / _MONTH,
        f"the {_DEFAULT_PARTITIONS} partitions of the default: two are left for each worker",
        "`LEADSTREAM_PARTITIONS` for the years to come, before the topics are made. Later it is a move to new topics "
        "([operating.md](operating.md))",
    )
    yield Limit(
        _a_day(busy / (1 / _value("split") + 1 / _value("join"))),
        "one core of a worker, the join first",
        "more workers; the splitter and the join share them evenly",
    )
    yield Limit(
        _a_day(_value("ledger") * _assumed("leads")),
        "the ledger of one node: a follow-up for each lead waits for two syncs of the disk",
        "three brokers, which acknowledge from memory; more send sinks",
    )
    yield Limit(
        3600 * _value("replay"),
        "a replay: one day of history takes an hour",
        "replay one Page, or one partition in each of several `replay run --from PARTITION:OFFSET`",
    )
    yield Limit(
        _a_day(_value("ingest") * busy),
        "one core of ingest",
        "`leadstream ingest --workers N`, or more machines behind the proxy",
    )
    yield Limit(
        _a_day(_assumed("cores") * busy / (_value("broker") / 1e6)),
        f"one broker of {_assumed('cores'):.0f} cores, without copies",
        "three brokers or more; Kafka spreads the partitions",
    )
    yield Limit(
        _a_day(_value("split") * busy / _assumed("page")),
        "the splitter of the largest Page, which is one partition of the raw log",
        "give that partition a worker and a core of its own; then spread the ads over several Pages",
    )
    yield Limit(
        _a_day(_value("postgres") * busy / revisions),
        "one PostgreSQL",
        "Delta Lake on object storage, or several sinks in one group with a server for each",
    )
    yield Limit(
        _a_day(_value("warehouse") * busy / revisions),
        "one Delta writer",
        "several warehouse sinks: each owns partitions and writes files of its own; commits are then the limit",
    )
    yield Limit(
        64 * _assumed("worker") * _assumed("monthly") / _MONTH,
        f"the sum of the join's memory: {_bytes(64 * _assumed('worker') * _value('person'))} in 64 workers",
        "four million people a worker on machines with more memory, where a takeover may last most of a minute; or "
        "forget people sooner than after 30 days, which is a constant of the code",
    )


def _decades() -> str:
    sections = []
    for load in _LOADS:
        reached = [limit for limit in sorted(_limits()) if load / 10 < limit.a_day <= load]
        rows = [(_short(limit.a_day), limit.what, limit.then) for limit in reached]
        text = table(("At", "What breaks", "What to do"), rows) if rows else _NOTHING[load]
        sections.append(f"### Up to {_short(load)} webhooks a day\n\n{text}")
    return "\n\n".join(sections)


def _whole(number: float) -> int:
    return max(1, -int(-number // 1))


def _short(number: float) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{float(f'{number / size:.2g}'):g} {name}"
    return f"{float(f'{number:.2g}'):,.0f}"


def _bytes(number: float) -> str:
    for size, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if number >= size:
            return f"{float(f'{number / size:.2g}'):g} {name}"
    return f"{float(f'{number / 1e6:.2g}'):g} MB"


def _duration(seconds: float) -> str:
    for size, name in ((_DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):g} {name}"
    return f"{seconds:.0f} s"


_NOTHING = {
    10_000: "No process is near a limit: `leadstream up` on one machine is enough. What breaks first is that machine, "
    "whose disk has the only copy of the log.",
    100_000: "No process is near a limit. Three brokers are worth their price before any of them is busy, because the "
    "disk of a single one has the only copy of the log.",
}  # fmt: skip

_PAGE = """\
# Scaling

Made by `make docs` from `docs/scaling_page.py`; do not edit.

How many partitions, processes, brokers and bytes a load takes, and what breaks first. The figures are measured on one
small machine ([benchmarks.md](benchmarks.md)), whose two cores also ran Kafka and the load. Everything else is
calculated from them: no load of a billion webhooks a day has been run. The figures of the splitter, the join and the
changelog are older than the join on arrival, and other programs ran on both cores meanwhile.

## What was measured

{measured}

Sizes are those of records without compression. On disk the benchmark's records take a fifth of them, because they
resemble each other; real ones compress less, so plan with the sizes above.

## What is assumed

{assumed}

Put in your own: everything below is proportional to the webhooks at the peak, to the people or to the bytes.

## From a load to a cluster

{loads}

* **Stream workers** are the larger of two numbers: what the processor time of the peak needs, and what the people need
  in memory. With these figures memory decides.
* **Partitions** are two for each worker, in a power of two. Their number never changes for topics that exist, so take
  that of the next line. A Page is one partition of `messenger-webhooks`, so more partitions than Pages bring the
  splitter nothing.
* **Brokers** are three as soon as there is more than one worker, so that a record has three copies; one before that.
* **The raw log** is kept for ever by default. With a retention it is shorter, and so is what a replay can mend.
  **Everything else** is 30 days of events, a year of leads, and the newest state of each person.
* **Replay of a day** is one process, over one day of webhooks.
* **Pages** cost an entry in pages.yaml and some bytes of state. Meta limits the calls of each Page, so the same
  follow-ups leave sooner on more Pages.

## What breaks first at each factor of ten

The first line of each table is what breaks first. The loads are those at which it has no room left.

{decades}
"""
