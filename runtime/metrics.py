"""Every metric in one table. Labels never hold a person's id, a token or text that people wrote."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# By the unit that a histogram's name ends with.
_BUCKETS = {
    "seconds": (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    "records": (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
}


class Metrics:
    """The metrics of one process; pass it in, so that each test and each worker counts for itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Webhook POSTs by result: accepted, bad_signature, too_large, cut_short, encoded, spool_full, not_kept,
        # bodies_in_flight (the bodies under way took all their memory). A rise
        # of bad_signature is a wrong secret or a stranger; of spool_full, Kafka; of not_kept, the disk or Kafka.
        self.webhooks_received = self._counter("webhooks_received", "Webhook POSTs", "result")
        # Webhooks given to Kafka, by Page of pages.yaml; those of all others are `other`. A Page that stands still
        # while its ads run has lost its subscription; see docs/operating.md, "A Page that stopped sending".
        self.page_webhooks = self._counter("page_webhooks", "Webhooks by Page", "page")
        # Connections to the public port by what ended or refused them: malformed (no HTTP, answered 400), too_slow,
        # evicted (closed for a new one), no_room (answered 503). A rise is a stranger, or a proxy with other habits.
        self.connections_refused = self._counter("connections_refused", "Connections refused or closed", "reason")
        # Webhooks that went to disk because Kafka did not answer in time.
        self.webhooks_spooled = self._counter("webhooks_spooled", "Webhooks kept on disk")
        # Webhooks on disk that Kafka has not acknowledged; it falls to 0 after an outage.
        self.spool_webhooks = self._gauge("spool_webhooks", "Webhooks in the spool")
        # What they take of LEADSTREAM_SPOOL_BYTES; at the limit webhooks are refused.
        self.spool_bytes = self._gauge("spool_bytes", "Bytes in the spool")
        # LEADSTREAM_SPOOL_BYTES, which each worker of ingest may use.
        self.spool_limit_bytes = self._gauge("spool_limit_bytes", "Bytes that the spool may take")
        # Those of them that Kafka refuses, as too large for its topic; anything but 0 needs a person.
        self.spool_set_aside = self._gauge("spool_set_aside", "Webhooks in the spool that Kafka refuses")
        # Time from the last byte of a body to Kafka's ack, or to disk.
        self.webhook_ack_seconds = self._histogram("webhook_ack_seconds", "Time to a durable webhook")
        # Data-deletion callbacks by result: accepted, bad_signed_request, no_signed_request, not_a_form, too_large,
        # cut_short, not_kept, no_public_url. Somebody has to resolve each request that is accepted.
        self.deletions_received = self._counter("deletions_received", "Data-deletion callbacks", "result")
        # Platform events by kind.
        self.events_parsed = self._counter("events_parsed", "Platform events", "kind")
        # What we leave out on purpose, by reason; a new reason after a Meta change deserves a look.
        self.items_ignored = self._counter("items_ignored", "Messaging items ignored", "reason")
        # Refused for good, by topic and reason; each is in `<topic>-dlq` with its bytes.
        self.records_dead_lettered = self._counter("records_dead_lettered", "Dead letters", "topic", "reason")
        # Records that Kafka lost before a stage read them, by topic and partition. The stage
        # stops and names them; anything but 0 needs a person.
        self.records_lost = self._counter("records_lost", "Records lost before they were read", "topic", "partition")
        # Lead revisions by outcome, and whether the revision closed the lead.
        self.lead_revisions = self._counter("lead_revisions", "Lead revisions published", "outcome", "closed")
        # Commands by what the planner did: issued, cancelled; notice is a person's opt-out, or its end.
        self.followups_planned = self._counter("followups_planned", "Follow-up commands published", "action")
        # Outcomes of follow-ups by status; in_doubt and parked need an operator.
        self.followup_outcomes = self._counter("followup_outcomes", "Follow-up outcomes", "status")
        # Follow-ups that wait in the send sink. By state: planned (its time comes later, or quiet hours last), due,
        # in_doubt (it may have arrived), or the reason for which it is parked; by the time until it can no longer be
        # sent: less than 1h, 6h, 1d, or more. A follow-up that stays due for more than minutes will expire.
        self.followups_waiting = self._gauge("followups_waiting", "Waiting follow-ups", "state", "closes_within")
        # Follow-ups of the last days whose last outcome is in_doubt. A rise that stays needs an operator.
        self.followups_in_doubt = self._gauge("followups_in_doubt", "Follow-ups that may have arrived")
        # Conversions by the status that they came to; in_doubt, rejected and a parked that repeats need an operator.
        self.conversion_outcomes = self._counter("conversion_outcomes", "Outcomes of conversions", "status")
        # Graph API calls by result: ok, or the error code.
        self.graph_calls = self._counter("graph_calls", "Graph API calls", "endpoint", "result")
        # Transcript requests by what the conversation gave: answers, no_answers, erased, refused (see graph_calls).
        self.transcripts_fetched = self._counter("transcripts_fetched", "Transcript requests settled", "result")
        # Deliveries by destination and result: delivered, erased, http_4xx and the like, or why there was no answer:
        # timeout, connection, tls, no_address, address_refused, not_http.
        self.deliveries = self._counter("deliveries", "Attempts of deliveries", "destination", "result")
        # Records that a destination has not got yet. A rise that stays is a destination that is down, or slow.
        self.deliveries_waiting = self._gauge("deliveries_waiting", "Waiting deliveries", "destination")
        # When a destination first failed since it last took something, in Unix time; 0 while it does not fail.
        self.destination_failing_since = self._gauge("destination_failing_since", "First failure", "destination")
        # 1 where a destination is disabled: by an operator, or because it answered 410 Gone.
        self.destination_disabled = self._gauge("destination_disabled", "Disabled destinations", "destination")
        # From the time of a revision or an outcome until a destination had it.
        self.delivery_seconds = self._histogram("delivery_seconds", "Time to a delivery")
        # Rows in the warehouse by table.
        self.warehouse_rows = self._counter("warehouse_rows", "Rows committed to the warehouse", "table")
        # Time of one warehouse commit.
        self.warehouse_commit_seconds = self._histogram("warehouse_commit_seconds", "Time of one warehouse commit")
        # Records between our position and the end, by topic and partition; a steady rise means too few workers;
        # NaN while Kafka does not answer.
        self.consumer_lag = self._gauge("consumer_lag", "Records not read yet", "topic", "partition")
        # For how long there has been something that is not read, at most: since the stamp of the last record that was
        # read, or since the last time that nothing was left. 0 at the end of the partition, NaN while Kafka does not
        # answer. Unlike the count, it goes on while a sink waits for its warehouse.
        self.consumer_lag_seconds = self._gauge("consumer_lag_seconds", "Age of unread records", "topic", "partition")
        # How far ahead of a plausible time a partition of messenger-webhooks is, where it is: a broker's clock or this
        # machine's has jumped; see docs/operating.md, "A clock that jumps".
        self.progress_refused_seconds = self._gauge("progress_refused_seconds", "Raw partition ahead", "partition")
        # Leads whose content a person's state had no room for, the oldest first. Somebody has dozens of leads with long
        # texts; see docs/join.md.
        self.join_state_shed = self._counter("join_state_shed", "Leads shed from the state of people")
        # Records that streams took in at once, by topic; always at the top means that it is behind.
        self.batch_records = self._histogram("batch_records", "Records in a batch", "topic")
        # Prerequisites that `leadstream doctor --every` finds broken; anything but 0 needs a person.
        self.prerequisites_broken = self._gauge("prerequisites_broken", "Broken prerequisites")
        # When the token of a Page ends, or its access to personal data, in Unix time, as `leadstream doctor --every`
        # sees it; there is none where it never ends.
        self.token_ends_at_seconds = self._gauge("token_ends_at_seconds", "End of a Page's token", "page", "check")
        # The share of the leads in Meta's conversations that we have, by Page and day in UTC, as `leadstream backfill
        # --every` sees it; below 1 webhooks were lost: see docs/operating.md.
        self.lead_completeness = self._gauge("lead_completeness", "Share of Meta's leads that we have", "page", "day")
        # From the post of a canary's webhook until its command came back from the send sink; see docs/operating.md,
        # "The canary".
        self.canary_seconds = self._histogram("canary_seconds", "A canary's way through everything but Meta")
        # Canaries that did not come back before the next one was due; anything but 0 needs a person.
        self.canary_lost = self._counter("canary_lost", "Canaries that did not come back in time")
        # Receipt of a webhook to the revision it made.
        self.lead_latency_seconds = self._histogram("lead_latency_seconds", "Receipt to lead revision")

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"leadstream_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"leadstream_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        buckets = _BUCKETS[name.rpartition("_")[2]]
        return Histogram(f"leadstream_{name}", help_text, labels, registry=self.registry, buckets=buckets)
