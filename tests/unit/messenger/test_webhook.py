"""Deliveries → events: each quirk of the envelope, each way to be malformed, and the key that ingest chooses."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.errors import UnreadableDelivery
from messenger.events import (
    Ad,
    Answer,
    AppId,
    DeliveryReceived,
    EchoReceived,
    HandoverReceived,
    LeadReferralReceived,
    MessageReceived,
    Origin,
    PageId,
    PlatformEvent,
    PolicyEnforced,
    PostbackReceived,
    Psid,
    SummaryReceived,
)
from messenger.limits import ITEM_MAX
from messenger.reasons import IgnoredReason, ItemFaultReason
from messenger.webhook import ItemFault, Parsed, pages_of, parse_delivery

PAGE, PERSON, OTHER = PageId("542998526103632"), Psid("5794982867201265"), Psid("5794982867201266")
ENTRY_MILLIS, MILLIS = 1770000000500, 1770000000123
RECEIVED = datetime(2026, 2, 2, 2, 41, tzinfo=UTC)
AT_MILLIS = datetime(2026, 2, 2, 2, 40, 0, 123000, tzinfo=UTC)
AT_ENTRY = datetime(2026, 2, 2, 2, 40, 0, 500000, tzinfo=UTC)
COMPLETE, INCOMPLETE = {"metadata": "messenger_lead_gen_complete"}, {"metadata": "messenger_lead_gen_incomplete"}
SUMMARY = {"mid": "m_S", "text": "Lead summary:\nCity?: Lyon"}
HANDOVER = {"previous_owner_app_id": 413038776280800, "new_owner_app_id": "2262510160704936"}
REFERRAL = {"type": "LEAD_COMPLETE", "ad_id": "120210000000000001"}


def an_item(**content: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": MILLIS, **content}


def an_entry(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"id": PAGE, "time": ENTRY_MILLIS, "messaging": list(items), **fields}


def a_body(*entries: Any, object: str = "page") -> bytes:
    return json.dumps({"object": object, "entry": list(entries)}).encode()


def parse(body: bytes, aliases: dict[PageId, PageId] | None = None) -> Parsed:
    return parse_delivery(
        body, received_at=RECEIVED, topic="messenger-webhooks", partition=3, offset=7, aliases=aliases or {}
    )


def the_event(*items: Any, **entry: Any) -> PlatformEvent:
    parsed = parse(a_body(an_entry(*items, **entry)))
    (event,) = parsed.events
    assert (parsed.ignored, parsed.faults) == ((), ())
    return event


def test_an_event_carries_its_page_person_times_and_origin() -> None:
    event = the_event(an_item(message={"mid": "m_1", "text": "hello"}))

    assert event == MessageReceived(
        event_id="message:m_1",
        page_id=PAGE,
        psid=PERSON,
        event_at=AT_MILLIS,
        received_at=RECEIVED,
        origin=Origin("messenger-webhooks", 3, 7, 0),
        mid="m_1",
        text="hello",
    )


def test_items_are_counted_over_the_whole_body() -> None:
    one, two, three = (an_item(message={"mid": f"m_{number}"}) for number in range(3))
    wrapped = {"field": "messages", "value": an_item(message={"mid": "m_4"})}
    body = a_body(an_entry(one, two, standby=[three]), an_entry(one, changes=[wrapped]))

    assert [event.origin.item for event in parse(body).events] == [0, 1, 2, 3, 4]


def test_an_item_that_no_kafka_record_holds_costs_its_neighbours_nothing() -> None:
    room = ITEM_MAX - len(json.dumps(an_item(message={"mid": "m_1", "text": ""})))
    largest, too_large = "x" * room, "x" * (room + 1)
    body = a_body(
        an_entry(an_item(message={"mid": "m_1", "text": largest}), an_item(message={"mid": "m_2", "text": too_large}))
    )

    parsed = parse(body)

    assert [event.event_id for event in parsed.events] == ["message:m_1"]
    assert parsed.faults == (ItemFault(1, "too_large", "messaging"),)


def test_an_empty_entry_of_a_large_body_is_ignored_by_name() -> None:
    text = {"mid": "m_1", "text": "x" * ITEM_MAX}

    parsed = parse(a_body({"id": PAGE, "messaging": []}, an_entry(an_item(message=text))))

    assert parsed.ignored == ("empty_entry",)
    assert [fault.item for fault in parsed.faults] == [1]


def test_a_body_without_an_entry_is_ignored_by_name() -> None:
    assert parse(a_body()).ignored == ("empty_entry",)


def test_the_second_kind_of_an_item_is_counted_beside_the_event_of_the_first() -> None:
    parsed = parse(a_body(an_entry(an_item(message={"mid": "m_1"}, referral=REFERRAL, optin={}, postback=None))))

    assert [type(event) for event in parsed.events] == [MessageReceived]
    assert parsed.ignored == ("second_kind", "second_kind")


def test_each_kind_of_an_item_without_an_event_is_counted() -> None:
    assert parse(a_body(an_entry(an_item(optin={}, account_linking={})))).ignored == ("optin", "account_linking")


def test_an_id_that_no_page_or_person_has_is_a_fault() -> None:
    parsed = parse(a_body(an_entry({"sender": {"id": "7" * 256}, "recipient": {"id": PAGE}, "message": {"mid": "m"}})))

    assert parsed.faults == (ItemFault(0, "id_too_long", "sender or recipient"),)


def test_a_page_id_that_could_be_the_key_of_a_person_is_a_fault() -> None:
    block = {"recipient": {"id": f"{PAGE}:7001"}, "policy_enforcement": {"action": "block"}}

    parsed = parse(a_body(an_entry(block, {**block, "recipient": {"id": PAGE}})))

    assert parsed.faults == (ItemFault(0, "colon_in_page_id", "sender or recipient"),)
    assert [event.page_id for event in parsed.events] == [PAGE]


@pytest.mark.parametrize("key", ["policy_enforcement", "policy-enforcement"])
def test_a_block_is_a_block_in_both_spellings(key: str) -> None:
    event = the_event({"recipient": {"id": PAGE}, "timestamp": MILLIS, key: {"action": "block"}})

    assert isinstance(event, PolicyEnforced)
    assert event.action == "block"


def test_a_bad_item_costs_its_neighbours_nothing() -> None:
    body = a_body(
        an_entry(an_item(message={"mid": "m_1"}), an_item(message={}), an_item(optin={}), 5, an_item(read={})),
        "entry",
        an_entry(an_item(message={"mid": "m_2"})),
    )

    parsed = parse(body)

    assert [event.event_id for event in parsed.events] == ["message:m_1", "message:m_2"]
    assert parsed.ignored == ("optin",)
    assert parsed.faults == (
        ItemFault(1, "no_mid", "message"),
        ItemFault(3, "not_an_object", "messaging"),
        ItemFault(4, "no_watermark", "read"),
        ItemFault(5, "not_an_object", "entry"),
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe\xff", "not_json"),
        (b'{"entry": [' + b"1" * 5000 + b"]}", "not_json"),
        (b"[" * 100_000, "too_deep"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "no_entries"),
        (b'{"object": "page", "entry": {}}', "no_entries"),
        (b'{"field": "messages", "value": {}}', "no_entries"),
    ],
)
def test_a_body_that_is_no_webhook_is_unreadable(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDelivery) as refused:
        parse(body)

    assert refused.value.reason == reason
    assert pages_of(body) == ()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"app_roles": {}}, "app_roles"),
        ({"message_edit": {}}, "message_edit"),
        ({"optin": {}}, "optin"),
        ({"messaging_feedback": {}}, "feedback"),
        ({"response_feedback": {}}, "response_feedback"),
        ({"form": {}}, "in_thread_form"),
        ({"account_linking": {}}, "account_linking"),
        ({"new_in_2027": {}}, "unknown_item"),
        ({"sender": {"user_ref": "x"}, "postback": {"mid": "m_1"}}, "no_person"),
        ({"sender": None, "message": {"mid": "m_1"}}, "no_person"),
        ({"sender": {"id": True}, "message": {"mid": "m_1"}}, "no_person"),
        ({"recipient": {}, "message": {"mid": "m_1", "is_echo": True}}, "no_person"),
    ],
)
def test_what_we_do_not_act_on_is_ignored_by_name(item: dict[str, Any], reason: IgnoredReason) -> None:
    assert parse(a_body(an_entry(an_item(**item)))) == Parsed(ignored=(reason,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([{"field": "leadgen", "value": {"leadgen_id": 1, "page_id": 2}}], "instant_form_lead"),
        ([{"field": "feed", "value": {"item": "post"}}], "other_change"),
        ([{"field": "feed", "value": None}], "other_change"),
        ([{}], "unknown_item"),
    ],
)
def test_changes_of_other_products_are_ignored_by_name(changes: list[Any], reason: IgnoredReason) -> None:
    assert parse(a_body({"id": PAGE, "changes": changes})) == Parsed(ignored=(reason,))


@pytest.mark.parametrize("entry", [{}, {"id": PAGE}, {"messaging": []}, {"messaging": None, "standby": []}])
def test_an_entry_without_items_is_ignored_by_name(entry: dict[str, Any]) -> None:
    assert parse(a_body(entry)) == Parsed(ignored=("empty_entry",))


@pytest.mark.parametrize("other", ["instagram", "user", "Page"])
def test_other_products_are_ignored_by_name(other: str) -> None:
    assert parse(a_body(an_entry(an_item(message={"mid": "m_1"})), object=other)) == Parsed(ignored=("not_a_page",))


@pytest.mark.parametrize(
    ("content", "reason", "place"),
    [
        ({"message": "hello"}, "not_an_object", "message"),
        ({"message": {"mid": ""}}, "no_mid", "message"),
        ({"message": {"mid": None, "is_echo": True}}, "no_mid", "message"),
        ({"pass_thread_control": []}, "not_an_object", "pass_thread_control"),
        ({"take_thread_control": None}, "not_an_object", "take_thread_control"),
        ({"request_thread_control": 1}, "not_an_object", "request_thread_control"),
        ({"referral": "x"}, "not_an_object", "referral"),
        ({"referral": REFERRAL, "lead": []}, "not_an_object", "lead"),
        ({"referral": REFERRAL, "lead": {"data": {}}}, "not_a_list", "lead.data"),
        ({"postback": "x"}, "not_an_object", "postback"),
        ({"reaction": {"action": "react"}}, "no_mid", "reaction"),
        ({"reaction": {"mid": "m_1"}}, "no_action", "reaction"),
        ({"delivery": {"mids": ["m_1"]}}, "no_watermark", "delivery"),
        ({"read": {"watermark": float("nan")}}, "no_watermark", "read"),
        ({"policy_enforcement": {}}, "no_action", "policy_enforcement"),
    ],
)
def test_a_malformed_item_is_a_fault_with_its_reason(
    content: dict[str, Any], reason: ItemFaultReason, place: str
) -> None:
    assert parse(a_body(an_entry(an_item(**content)))) == Parsed(faults=(ItemFault(0, reason, place),))


def test_an_event_without_any_page_is_a_fault() -> None:
    body = a_body({"messaging": [{"sender": {"id": PERSON}, "message": {"mid": "m_1"}}]})

    assert parse(body).faults == (ItemFault(0, "no_page", "recipient"),)


def test_a_single_item_without_its_list_is_read() -> None:
    body = a_body({"id": PAGE, "messaging": an_item(message={"mid": "m_1"})})

    assert [event.event_id for event in parse(body).events] == ["message:m_1"]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (1770000000, datetime(2026, 2, 2, 2, 40, tzinfo=UTC)),
        (MILLIS, AT_MILLIS),
        ("1770000000", datetime(2026, 2, 2, 2, 40, tzinfo=UTC)),
        (str(MILLIS), AT_MILLIS),
        (float(MILLIS), AT_MILLIS),
        (999_999_999, AT_ENTRY),
        (10**12, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        (10**13 - 1, datetime(2286, 11, 20, 17, 46, 39, 999000, tzinfo=UTC)),
        (10**13, AT_ENTRY),
        (0, AT_ENTRY),
        (-MILLIS, AT_ENTRY),
        (10**400, AT_ENTRY),
        (float("inf"), AT_ENTRY),
        (True, AT_ENTRY),
        ("yesterday", AT_ENTRY),
        ("9" * 4000, AT_ENTRY),
        (None, AT_ENTRY),
        ([MILLIS], AT_ENTRY),
    ],
)
def test_seconds_millis_and_numeric_strings_are_times_and_the_rest_falls_back(
    stamp: object, expected: datetime
) -> None:
    assert the_event(an_item(message={"mid": "m_1"}, timestamp=stamp)).event_at == expected


def test_without_any_stamp_the_time_of_receipt_stands_in() -> None:
    assert the_event(an_item(message={"mid": "m_1"}, timestamp=None), time=None).event_at == RECEIVED


def test_an_early_clock_of_meta_is_kept_as_it_is() -> None:
    later = 1770000600000

    assert the_event(an_item(message={"mid": "m_1"}, timestamp=later)).event_at > RECEIVED


@pytest.mark.parametrize(
    ("entry_id", "item", "expected"),
    [
        ("104508901353867", {}, (PAGE, PERSON)),
        (104508901353867, {"recipient": {"id": int(PAGE)}, "sender": {"id": int(PERSON)}}, (PAGE, PERSON)),
        ("104508901353867", {"recipient": None}, ("104508901353867", PERSON)),
        (104508901353867, {"recipient": {"id": ""}}, ("104508901353867", PERSON)),
    ],
)
def test_the_page_is_the_recipient_and_else_the_entry(
    entry_id: object, item: dict[str, Any], expected: tuple[str, str]
) -> None:
    event = the_event(an_item(message={"mid": "m_1"}, **item), id=entry_id)

    assert (event.page_id, event.psid) == expected


def test_an_alias_stands_for_its_page() -> None:
    body = a_body(an_entry(an_item(message={"mid": "m_1"}, recipient=None), id="104508901353867"))

    (event,) = parse(body, {PageId("104508901353867"): PAGE}).events

    assert event.page_id == PAGE


@pytest.mark.parametrize("mark", [True, "true"])
def test_an_echo_goes_from_the_page_to_the_person(mark: object) -> None:
    echo = {"is_echo": mark, "mid": "m_1", "app_id": 2262510160704936, "metadata": "command-1"}

    event = the_event(an_item(message=echo, sender={"id": PAGE}, recipient={"id": PERSON}))

    assert isinstance(event, EchoReceived)
    assert (event.page_id, event.psid, event.app_id, event.metadata) == (PAGE, PERSON, "2262510160704936", "command-1")


def test_an_echo_and_a_message_of_one_mid_stay_two_events() -> None:
    echo = an_item(message={"mid": "m_1", "is_echo": True}, sender={"id": PAGE}, recipient={"id": PERSON})

    parsed = parse(a_body(an_entry(an_item(message={"mid": "m_1"}), echo)))

    assert [event.event_id for event in parsed.events] == ["message:m_1", "echo:m_1"]


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"message": SUMMARY, "hop_context": COMPLETE}, {}),
        ({"message": SUMMARY, "hop_context": [{"app_id": 1}, COMPLETE]}, {}),
        ({"message": SUMMARY}, {"hop_context": [COMPLETE]}),
        ({"message": SUMMARY}, {"hop_context": COMPLETE}),
        ({"message": {"mid": "m_S", "text": "Récapitulatif :\nVille ?: Lyon"}, "hop_context": COMPLETE}, {}),
        ({"message": {"mid": "m_S", "text": "概要\n名前\uff1a山田"}}, {"hop_context": [COMPLETE]}),
    ],
)
def test_hop_context_and_text_together_make_a_summary(content: dict[str, Any], entry: dict[str, Any]) -> None:
    event = the_event(an_item(**content), **entry)

    assert isinstance(event, SummaryReceived)
    assert (event.event_id, event.outcome) == ("summary:m_S", "complete")


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        pytest.param({"message": SUMMARY}, {}, id="anybody can type it"),
        pytest.param({"message": SUMMARY, "hop_context": {"metadata": "other"}}, {}, id="another hop"),
        pytest.param({"message": {"mid": "m_S", "text": "hi: there"}, "hop_context": COMPLETE}, {}, id="one line"),
        pytest.param({"message": {"mid": "m_S", "text": "hi\nthere"}, "hop_context": COMPLETE}, {}, id="no colon"),
        pytest.param({"message": {"mid": "m_S"}, "hop_context": COMPLETE}, {}, id="no text"),
        pytest.param({"message": SUMMARY, "hop_context": "messenger_lead_gen_complete"}, {}, id="no object"),
    ],
)
def test_an_ordinary_message_is_no_summary(content: dict[str, Any], entry: dict[str, Any]) -> None:
    assert isinstance(the_event(an_item(**content), **entry), MessageReceived)


def test_a_hop_of_the_entry_makes_no_summary_of_a_message_beside_the_handover() -> None:
    typed = an_item(message={"mid": "m_1", "text": "two\nlines: typed"})
    real = an_item(message={"mid": "m_2", "text": "Lead summary:\nCity?: Lyon"})
    body = a_body(an_entry(an_item(pass_thread_control=HANDOVER), typed, real, hop_context=[COMPLETE]))

    assert [type(event) for event in parse(body).events] == [HandoverReceived, MessageReceived, SummaryReceived]


def test_the_hop_of_the_item_says_the_outcome_before_that_of_the_entry() -> None:
    event = the_event(an_item(message=SUMMARY, hop_context=INCOMPLETE), hop_context=[COMPLETE])

    assert isinstance(event, SummaryReceived)
    assert event.outcome == "incomplete"


@pytest.mark.parametrize(
    ("content", "entry", "metadata"),
    [
        (HANDOVER, {"hop_context": [COMPLETE]}, COMPLETE["metadata"]),
        ({**HANDOVER, "metadata": ""}, {"hop_context": INCOMPLETE}, INCOMPLETE["metadata"]),
        ({**HANDOVER, **INCOMPLETE}, {"hop_context": [COMPLETE]}, INCOMPLETE["metadata"]),
        ({**HANDOVER, "metadata": "free text"}, {"hop_context": [COMPLETE]}, "free text"),
        (HANDOVER, {"hop_context": [COMPLETE, INCOMPLETE]}, None),
        (HANDOVER, {"hop_context": [{"metadata": "other"}]}, None),
        ({**HANDOVER, "previous_owner_app_id": 263902037430900}, {"hop_context": [COMPLETE]}, None),
    ],
    ids=["absent", "empty", "said", "said otherwise", "hops disagree", "another hop", "not by the Leadgen app"],
)
def test_the_hop_stands_in_for_the_metadata_of_a_lead_handover(
    content: dict[str, Any], entry: dict[str, Any], metadata: str | None
) -> None:
    event = the_event(an_item(pass_thread_control=content), **entry)

    assert isinstance(event, HandoverReceived)
    assert event.metadata == metadata
    assert event.event_id.endswith(f":{content.get('metadata', '-')}"), "the same id with and without a hop"


def test_an_echo_is_never_a_summary() -> None:
    assert isinstance(the_event(an_item(message={**SUMMARY, "is_echo": True}, hop_context=COMPLETE)), EchoReceived)


@pytest.mark.parametrize(("kind", "outcome"), [("LEAD_COMPLETE", "complete"), ("LEAD_INCOMPLETE", "incomplete")])
def test_a_lead_referral_has_answers_and_the_ad(kind: str, outcome: str) -> None:
    context = {"ad_title": "Spring", "post_id": 559200000000001, "photo_url": "https://scontent.example.test/p.jpg"}
    rows = [
        {"question": "City?", "answer": "Lyon"},
        {"question": "Size?", "answer": ""},
        {"question": "#?", "answer": 4},
    ]
    referral = {"type": kind, "source": "ADS", "ad_id": 120210000000000001, "ads_context_data": context, "ref": "r"}

    event = the_event(an_item(referral=referral, lead={"data": rows}))

    assert isinstance(event, LeadReferralReceived)
    assert event.outcome == outcome
    assert event.answers == (Answer("City?", "Lyon"), Answer("Size?", ""), Answer("#?", "4"))
    assert event.ad == Ad("120210000000000001", "Spring", "559200000000001", "r")
    assert event.event_id == f"lead_referral:{MILLIS}:120210000000000001:{outcome}"


@pytest.mark.parametrize("is_inside", [True, False], ids=["answers inside", "answers beside"])
@pytest.mark.parametrize("content", [{"message": {"mid": "m_1"}}, {"postback": {"mid": "m_1", "payload": "p"}}])
def test_a_lead_referral_may_come_inside_a_message(content: dict[str, Any], is_inside: bool) -> None:
    ((kind, fields),) = content.items()
    lead = {"lead": {"data": [{"question": "City?", "answer": "Lyon"}]}}
    item = {kind: {**fields, "referral": REFERRAL, **(lead if is_inside else {})}, **({} if is_inside else lead)}

    event = the_event(an_item(**item))

    assert isinstance(event, LeadReferralReceived)
    assert event.answers == (Answer("City?", "Lyon"),)
    assert event.event_id == the_event(an_item(referral=REFERRAL)).event_id


@pytest.mark.parametrize("lead", [None, {}, {"data": None}, {"data": []}])
def test_a_lead_referral_may_come_without_answers(lead: object) -> None:
    event = the_event(an_item(referral=REFERRAL, lead=lead))

    assert isinstance(event, LeadReferralReceived)
    assert event.answers == ()


def test_the_good_answers_of_a_lead_are_kept_and_the_bad_ones_counted() -> None:
    rows = [
        {"question": "A?", "answer": "b"},
        "row",
        {"answer": "c"},
        {"question": "D?"},
        {"question": "E?", "answer": []},
    ]

    parsed = parse(a_body(an_entry(an_item(referral=REFERRAL, lead={"data": rows}))))

    [event] = parsed.events
    assert isinstance(event, LeadReferralReceived)
    assert event.answers == (Answer("A?", "b"),)
    assert parsed.ignored == ("incomplete_answer",) * 4


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (["Red", "Blue"], "Red, Blue"),
        (["Red", 7, None], "Red, 7, null"),
        (4.5, "4.5"),
        (True, "true"),
        ({"city": "Zürich"}, '{"city": "Zürich"}'),
        ([["a"], {}], '["a"], {}'),
        ("\ud83d", "\N{REPLACEMENT CHARACTER}"),
        (["\ud83d"], "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_answer_that_is_no_text_is_read_as_text(answer: object, text: str) -> None:
    event = the_event(an_item(referral=REFERRAL, lead={"data": [{"question": "A?", "answer": answer}]}))

    assert isinstance(event, LeadReferralReceived)
    assert event.answers == (Answer("A?", text),)


def test_an_answer_that_can_be_read_and_not_written_again_is_a_fault() -> None:
    item = an_item(referral=REFERRAL, lead={"data": [{"question": "A?", "answer": "NESTED"}]})
    limit = sys.getrecursionlimit()
    faults: set[ItemFault] = set()
    # How deep a body may be depends on how deep the caller is.
    for depth in range(limit - 200, limit):
        try:
            faults.update(parse(a_body(an_entry(item)).replace(b'"NESTED"', b"[" * depth + b"]" * depth)).faults)
        except UnreadableDelivery:
            break

    assert faults == {ItemFault(0, "too_deep", "lead.data")}


@pytest.mark.parametrize("kind", ["OPEN_THREAD", "lead_complete", None, []])
def test_any_other_referral_is_no_lead(kind: object) -> None:
    assert not isinstance(the_event(an_item(referral={**REFERRAL, "type": kind})), LeadReferralReceived)


def test_app_ids_are_strings_however_they_are_written() -> None:
    event = the_event(
        an_item(pass_thread_control={"previous_owner_app_id": None, "new_owner_app_id": 2262510160704936})
    )

    assert isinstance(event, HandoverReceived)
    assert (event.previous_owner_app_id, event.new_owner_app_id) == (None, AppId("2262510160704936"))


def test_a_policy_event_concerns_the_page_and_nobody() -> None:
    event = the_event({"recipient": {"id": PAGE}, "policy_enforcement": {"action": "unblock"}})

    assert event == PolicyEnforced(
        event_id="policy:-:unblock",
        page_id=PAGE,
        psid=None,
        event_at=AT_ENTRY,
        received_at=RECEIVED,
        origin=Origin("messenger-webhooks", 3, 7, 0),
        action="unblock",
    )


@pytest.mark.parametrize(
    "content",
    [
        {"message": {"mid": "m_1"}},
        {"postback": {"mid": "m_1"}},
        {"reaction": {"mid": "m_1", "action": "react"}},
        {"referral": REFERRAL},
        {"message": SUMMARY, "hop_context": COMPLETE},
    ],
)
def test_standby_items_are_marked(content: dict[str, Any]) -> None:
    event = the_event(standby=[an_item(**content)])

    assert getattr(event, "standby", None) is True


@pytest.mark.parametrize(
    "content",
    [
        {"message": {"mid": "m_1", "text": "hello"}},
        {"message": SUMMARY, "hop_context": COMPLETE},
        {"message": {"mid": "m_1", "is_echo": True}},
        {"postback": {"mid": "m_1", "title": "Go"}},
    ],
)
def test_copies_with_one_mid_are_one_event_whatever_their_stamps(content: dict[str, Any]) -> None:
    first = the_event(an_item(**content))
    copy = the_event(an_item(**{**content, "timestamp": MILLIS + 1000}), time=ENTRY_MILLIS + 9000)

    assert first.event_id == copy.event_id


@pytest.mark.parametrize(
    "content",
    [
        {"pass_thread_control": HANDOVER},
        {"take_thread_control": HANDOVER},
        {"request_thread_control": {"requested_owner_app_id": 1}},
        {"referral": REFERRAL},
        {"referral": {"ref": "r"}},
        {"postback": {"payload": "GO"}},
        {"reaction": {"mid": "m_1", "action": "react"}},
        {"policy_enforcement": {"action": "block"}},
    ],
)
def test_without_a_mid_the_stamp_tells_events_apart_and_the_time_of_the_entry_does_not(content: dict[str, Any]) -> None:
    first = the_event(an_item(**content))
    copy = the_event(an_item(**content), time=ENTRY_MILLIS + 9000)
    next_one = the_event(an_item(**content, timestamp=MILLIS + 1000))

    assert first.event_id == copy.event_id != next_one.event_id


@pytest.mark.parametrize("kind", ["delivery", "read"])
def test_a_watermark_is_the_identity_of_its_event(kind: str) -> None:
    first, next_one = (the_event(an_item(**{kind: {"watermark": MILLIS + later}})) for later in (0, 1))

    assert first.event_id == f"{kind}:{MILLIS}" != next_one.event_id


def test_a_delivery_names_its_mids_where_meta_does() -> None:
    event = the_event(an_item(delivery={"mids": ["m_1", 2, None], "watermark": MILLIS}))

    assert isinstance(event, DeliveryReceived)
    assert event.mids == ("m_1", "2")


@pytest.mark.parametrize(("reply", "payload"), [({"payload": "STOP"}, "STOP"), ({"payload": 7}, None), ("STOP", None)])
def test_a_quick_reply_has_its_payload(reply: object, payload: str | None) -> None:
    event = the_event(an_item(message={"mid": "m_1", "text": "No more", "quick_reply": reply}))

    assert isinstance(event, MessageReceived)
    assert (event.text, event.payload) == ("No more", payload)


def test_a_postback_on_standby_has_no_payload() -> None:
    event = the_event(standby=[an_item(postback={"mid": "m_1", "title": "Go"})])

    assert isinstance(event, PostbackReceived)
    assert (event.title, event.payload) == ("Go", None)


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    body = a_body(an_entry(an_item(message={"mid": "m_1", "text": "TEXT"}))).replace(
        b"TEXT", rb"\ud83d \ud83d\ude00 \ude00"
    )

    (event,) = parse(body).events

    assert isinstance(event, MessageReceived)
    assert event.text == "\ufffd 😀 \ufffd"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([an_entry(an_item(message={"mid": "m_1"}))], (PAGE,)),
        ([an_entry(an_item(message={"mid": "m_1"}), an_item(sender={"id": OTHER}))], (PAGE,)),
        ([an_entry({"recipient": {"id": PAGE}, "policy_enforcement": {}}, id="1")], (PAGE,)),
        ([an_entry(an_item()), an_entry(an_item(recipient={"id": OTHER}))], (PAGE, OTHER)),
        ([{"id": "1", "changes": [{"field": "leadgen", "value": {}}]}], ("1",)),
        ([{"id": 1, "messaging": []}, an_entry()], ("1", PAGE)),
        ([{"id": "9" * 300}], ()),
        ([{}], ()),
        ([], ()),
        ([5, an_entry(an_item())], (PAGE,)),
    ],
)
def test_the_pages_of_a_body_are_those_of_its_items(entries: list[Any], expected: tuple[str, ...]) -> None:
    assert pages_of(a_body(*entries)) == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("page") | st.just(PAGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_WHOLE = {
    "object": "page",
    "entry": [
        an_entry(
            an_item(message={**SUMMARY, "metadata": "m", "app_id": 1, "is_echo": False}, hop_context=COMPLETE),
            an_item(pass_thread_control={**HANDOVER, "metadata": "x"}),
            an_item(
                referral={**REFERRAL, "ads_context_data": {"post_id": 1}},
                lead={"data": [{"question": "A", "answer": "b"}]},
            ),
            an_item(delivery={"mids": ["m"], "watermark": MILLIS}),
            an_item(reaction={"mid": "m", "action": "react"}),
            standby=[an_item(postback={"title": "Go", "payload": "p"})],
            changes=[{"field": "messages", "value": an_item(read={"watermark": MILLIS})}],
            hop_context=[COMPLETE],
        )
    ],
}


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(deeper for key, child in children for deeper in _paths(child, (*path, key)))]


def _replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = node.copy()
    copy[path[0]] = _replaced(node[path[0]], path[1:], value)
    return copy


@given(path=st.sampled_from(_paths(_WHOLE)), value=_JSON)
def test_any_json_in_place_of_any_node_ends_somewhere_named(path: tuple[Any, ...], value: Any) -> None:
    body = json.dumps(_replaced(_WHOLE, path, value)).encode()

    try:
        parsed = parse(body)
    except UnreadableDelivery:
        assert pages_of(body) == ()
        return

    assert len(parsed.events) + len(parsed.ignored) + len(parsed.faults) > 0
    assert len({event.origin.item for event in parsed.events}) == len(parsed.events)
    assert json.dumps([event.event_id for event in parsed.events], ensure_ascii=False).encode()


@given(path=st.sampled_from(_paths(_WHOLE)), value=_JSON)
def test_every_event_is_of_a_page_that_the_body_names(path: tuple[Any, ...], value: Any) -> None:
    body = json.dumps(_replaced(_WHOLE, path, value)).encode()
    try:
        parsed = parse(body)
    except UnreadableDelivery:
        return

    assert {event.page_id for event in parsed.events} <= {*pages_of(body)}


@given(st.binary())
def test_no_bytes_are_too_strange(body: bytes) -> None:
    try:
        parse(body)
    except UnreadableDelivery:
        assert pages_of(body) == ()
