import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.avro.Schema;
import org.apache.avro.SchemaBuilder;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** The signals of a person's lead to its revisions. The store has the person's last message and lead, as Avro. */
final class Join implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "people";

    private static final long WINDOW = 15 * 60 * 1000;
    private static final long DAY = 24 * 3600 * 1000;
    private static final String LEADGEN = "413038776280800";
    private static final String SUMMARY = "Lead summary:\n";
    private static final Map<String, String> SIGNALS =
            Map.of("handover", "handover_at", "lead_referral", "referral_at", "summary", "summary_at");

    private final Avro events;
    private final Avro leads;
    private final Avro people;
    private final Schema answer;
    private final Schema origin;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;

    Join(Avro events, Avro leads) {
        this.events = events;
        this.leads = leads;
        Schema person = SchemaBuilder.record("Person").fields()
                .optionalLong("wrote_at")
                .name("lead").type(Schema.createUnion(Schema.create(Schema.Type.NULL), leads.schema)).withDefault(null)
                .endRecord();
        people = new Avro(0, person.toString());
        answer = leads.schema.getField("answers").schema().getElementType();
        origin = leads.schema.getField("origins").schema().getElementType();
    }

    static String outcome(String metadata) {
        return metadata.equals("messenger_lead_gen_complete") ? "complete" : "incomplete";
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        if (record.key() == null) {
            return;
        }
        GenericRecord event = events.decode(record.value());
        byte[] stored = store.get(record.key());
        GenericRecord person =
                stored == null ? new GenericRecordBuilder(people.schema).build() : people.decode(stored);
        GenericRecord lead = null;
        if (event.get("kind").toString().equals("message")) {
            Object before = person.get("wrote_at");
            person.put("wrote_at", Math.max(before == null ? 0 : (long) before, (long) event.get("event_at")));
        } else {
            lead = revised(person, event);
            if (lead != null) {
                person.put("lead", lead);
            }
        }
        store.put(record.key(), people.encode(person));
        if (lead != null) {
            byte[] key = lead.get("lead_id").toString().getBytes(UTF_8);
            context.forward(record.withKey(key).withValue(leads.encode(lead)));
        }
    }

    /** The next revision of the person's lead; null where the event is no news. */
    private GenericRecord revised(GenericRecord person, GenericRecord event) {
        String signal = SIGNALS.get(event.get("kind").toString());
        if (signal == null || signal.equals("handover_at") && !isFromLeadgen(event)) {
            return null;
        }
        long receivedAt = (long) event.get("received_at");
        GenericRecord lead = (GenericRecord) person.get("lead");
        if (lead != null && event.get("event_at").equals(lead.get(signal))) {
            return null;
        }
        if (lead == null || lead.get(signal) != null || receivedAt - (long) lead.get("first_seen_at") > WINDOW) {
            lead = opened(event);
        }
        add(lead, signal, event);
        boolean closed = SIGNALS.values().stream().map(lead::get).allMatch(at -> at != null);
        Object wroteAt = person.get("wrote_at");
        lead.put("revision", (int) lead.get("revision") + 1);
        lead.put("updated_at", receivedAt);
        lead.put("last_user_message_at", wroteAt);
        lead.put("messaging_window_closes_at", (wroteAt == null ? receivedAt : (long) wroteAt) + DAY);
        lead.put("closed", closed);
        lead.put("close_reason", closed ? "all_signals" : null);
        addOrigin(lead, (GenericRecord) event.get("origin"));
        return lead;
    }

    private static boolean isFromLeadgen(GenericRecord event) {
        return event.get("previous_owner_app_id") instanceof CharSequence app && app.toString().equals(LEADGEN);
    }

    private GenericRecord opened(GenericRecord event) {
        String openedBy = event.get("page_id") + ":" + event.get("psid") + ":" + event.get("event_id");
        return new GenericRecordBuilder(leads.schema)
                .set("lead_id", UUID.nameUUIDFromBytes(openedBy.getBytes(UTF_8)).toString())
                .set("revision", 0)
                .set("page_id", event.get("page_id"))
                .set("psid", event.get("psid"))
                .set("outcome", "")
                .set("first_seen_at", event.get("received_at"))
                .set("updated_at", event.get("received_at"))
                .set("messaging_window_closes_at", event.get("received_at"))
                .build();
    }

    private void add(GenericRecord lead, String signal, GenericRecord event) {
        long at = (long) event.get("event_at");
        lead.put(signal, at);
        switch (signal) {
            case "handover_at" -> {
                lead.put("outcome", outcome(event.get("metadata").toString()));
                lead.put("target_app_id", event.get("new_owner_app_id"));
                lead.put("thread_control_expires_at", at + 4 * DAY);
            }
            case "referral_at" -> {
                lead.put("outcome", event.get("outcome"));
                lead.put("answers", event.get("answers"));
                lead.put("answers_source", "referral");
                lead.put("ad", event.get("ad"));
            }
            default -> {
                String text = event.get("text").toString();
                lead.put("outcome", event.get("outcome"));
                lead.put("summary_text", text);
                if (lead.get("referral_at") == null) {
                    lead.put("answers", answers(text));
                    lead.put("answers_source", "summary");
                }
            }
        }
    }

    private List<GenericRecord> answers(String text) {
        List<GenericRecord> answers = new ArrayList<>();
        for (String line : text.substring(SUMMARY.length()).split("\n")) {
            String[] parts = line.split(": ", 2);
            GenericRecord pair = new GenericData.Record(answer);
            pair.put("question", parts[0]);
            pair.put("answer", parts.length > 1 ? parts[1] : "");
            answers.add(pair);
        }
        return answers;
    }

    private void addOrigin(GenericRecord lead, GenericRecord event) {
        GenericRecord from = new GenericData.Record(origin);
        for (String name : List.of("topic", "partition", "offset")) {
            from.put(name, event.get(name));
        }
        @SuppressWarnings("unchecked")
        List<GenericRecord> known = (List<GenericRecord>) lead.get("origins");
        List<GenericRecord> origins = new ArrayList<>(known);
        origins.add(from);
        lead.put("origins", origins);
    }
}
