"""Views over the tables for the commonest questions: the same names, columns and values in every warehouse."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A view; `means` describes a row for analysts."""

    name: str
    means: str
    select: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """The SQL of an engine that reads the parts of a lead: its ad, and its answers as `pair`, each in a row."""

    ad_id: str
    ad_title: str
    pairs: str
    question: str
    answer: str


DUCKDB = Dialect(
    ad_id="lead.ad.ad_id",
    ad_title="lead.ad.ad_title",
    pairs="unnest(lead.answers) with ordinality as one(pair, position)",
    question="pair.question",
    answer="pair.answer",
)
POSTGRES = Dialect(
    ad_id="lead.ad ->> 'ad_id'",
    ad_title="lead.ad ->> 'ad_title'",
    pairs="jsonb_array_elements(lead.answers) with ordinality as one(pair, position)",
    question="pair ->> 'question'",
    answer="pair ->> 'answer'",
)

_DAY = "cast(lead.first_seen_at at time zone 'UTC' as date)"

# Each may read those before it.
VIEWS: tuple[View, ...] = (
    View(
        "lead_answers",
        "An answer of a lead, `position` counting from 1 in the order of the lead flow.",
        f"""
        select lead.lead_id, lead.page_id, {{ad_id}} as ad_id, {_DAY} as day, lead.outcome, position,
               {{question}} as question, {{answer}} as answer
        from leads lead cross join {{pairs}}
    """,
    ),
    # A duplicate of an outcome or of a message changes no minimum. A comparison of times in the join would have DuckDB
    # compare every outcome with every message.
    View(
        "lead_journeys",
        "A lead with its first moments; null is what has not happened. `day` is that of `first_seen_at` in UTC.",
        f"""
        with sent as (
            select lead_id,
                   min(occurred_at) filter (where status in ('sent', 'delivered', 'read')) as followed_up_at,
                   min(occurred_at) filter (where status = 'read') as read_at
            from followup_outcome_events group by lead_id
        ), replied as (
            select lead.lead_id,
                   min(message.event_at) filter (where message.event_at > sent.followed_up_at) as replied_at
            from leads lead join sent on sent.lead_id = lead.lead_id
            join user_messages message on message.page_id = lead.page_id and message.psid = lead.psid
            group by lead.lead_id
        )
        select lead.lead_id, lead.page_id, {{ad_id}} as ad_id, {{ad_title}} as ad_title, {_DAY} as day, lead.outcome,
               lead.answers_source <> 'none' as answered, lead.first_seen_at, sent.followed_up_at, sent.read_at,
               replied.replied_at,
               cast(extract(epoch from (sent.followed_up_at - lead.first_seen_at)) as double precision)
                   as seconds_to_followup
        from leads lead left join sent on sent.lead_id = lead.lead_id
        left join replied on replied.lead_id = lead.lead_id
    """,
    ),
    View(
        "lead_funnel",
        "Leads by Page, ad and day, and how many of them got how far. Clicks are not known: Meta tells of a lead only.",
        """
        select page_id, ad_id, ad_title, day, count(*) as leads,
               count(*) filter (where outcome = 'complete') as complete,
               count(*) filter (where answered) as answered,
               count(followed_up_at) as followed_up,
               count(read_at) as read,
               count(replied_at) as replied
        from lead_journeys group by page_id, ad_id, ad_title, day
    """,
    ),
    View(
        "followup_speed",
        "Seconds from a lead to its first follow-up by Page, ad and day: the median and the 90th percentile.",
        """
        select page_id, ad_id, day, count(*) as followed_up,
               percentile_cont(0.5) within group (order by seconds_to_followup) as median_seconds,
               percentile_cont(0.9) within group (order by seconds_to_followup) as p90_seconds
        from lead_journeys where followed_up_at is not null group by page_id, ad_id, day
    """,
    ),
    View(
        "answer_counts",
        "How often each answer was given, by Page, ad and day of the lead.",
        """
        select page_id, ad_id, day, question, answer, count(*) as leads
        from lead_answers group by page_id, ad_id, day, question, answer
    """,
    ),
    # The bytes hold whatever people wrote; they stay in dead_letter_records.
    View(
        "dead_letters",
        "What was refused for good: why, where it came from, how large it is. The bytes are in `dead_letter_records`.",
        """
        select topic, "partition", "offset", stage, fault, reason, refused_at,
               octet_length(key) as key_bytes, octet_length(value) as value_bytes, _topic, _partition, _offset
        from dead_letter_records
    """,
    ),
)


def view_queries(dialect: Dialect) -> Mapping[str, str]:
    """The SELECT of each view, in the order in which they can be created."""
    parts = {name: getattr(dialect, name) for name in Dialect.__slots__}
    return {view.name: view.select.format(**parts) for view in VIEWS}
