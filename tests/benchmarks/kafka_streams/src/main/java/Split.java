import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** One webhook to its events: messages and the signals of a lead. */
final class Split implements Processor<byte[], byte[], byte[], byte[]> {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String SUMMARY = "Lead summary:\n";

    private final Avro events;
    private final Schema answer;
    private final Schema ad;
    private final Schema origin;
    private ProcessorContext<byte[], byte[]> context;

    Split(Avro events) {
        this.events = events;
        answer = orNull("answers").getElementType();
        ad = orNull("ad");
        origin = orNull("origin");
    }

    private Schema orNull(String field) {
        return events.schema.getField(field).schema().getTypes().get(1);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> webhook) {
        JsonNode body;
        try {
            body = JSON.readTree(webhook.value());
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
        for (JsonNode entry : body.path("entry")) {
            int number = 0;
            for (JsonNode item : entry.path("messaging")) {
                GenericRecord event = event(item, number++, webhook.timestamp());
                if (event != null) {
                    byte[] key = (event.get("page_id") + ":" + event.get("psid")).getBytes(UTF_8);
                    context.forward(webhook.withKey(key).withValue(events.encode(event)));
                }
            }
        }
    }

    private GenericRecord event(JsonNode item, int number, long receivedAt) {
        GenericRecordBuilder event = new GenericRecordBuilder(events.schema);
        if (!addContent(item, event)) {
            return null;
        }
        var raw = context.recordMetadata().orElseThrow();
        GenericRecord from = new GenericData.Record(origin);
        from.put("topic", raw.topic());
        from.put("partition", raw.partition());
        from.put("offset", raw.offset());
        from.put("item", number);
        long stamp = item.get("timestamp").asLong();
        return event.set("event_id", event.get("kind") + ":" + stamp + ":" + item.at("/message/mid").asText())
                .set("page_id", item.at("/recipient/id").asText())
                .set("psid", item.at("/sender/id").asText())
                .set("event_at", stamp > 100_000_000_000L ? stamp : stamp * 1000)
                .set("received_at", receivedAt)
                .set("origin", from)
                .build();
    }

    private boolean addContent(JsonNode item, GenericRecordBuilder event) {
        if (item.has("message")) {
            return addMessage(item, event);
        }
        if (item.has("pass_thread_control")) {
            JsonNode control = item.get("pass_thread_control");
            event.set("kind", "handover")
                    .set("previous_owner_app_id", control.get("previous_owner_app_id").asText())
                    .set("new_owner_app_id", control.get("new_owner_app_id").asText())
                    .set("metadata", control.get("metadata").asText());
            return true;
        }
        String type = item.at("/referral/type").asText();
        if (type.equals("LEAD_COMPLETE") || type.equals("LEAD_INCOMPLETE")) {
            event.set("kind", "lead_referral")
                    .set("outcome", type.equals("LEAD_COMPLETE") ? "complete" : "incomplete")
                    .set("answers", answers(item.at("/lead/data")))
                    .set("ad", ad(item.get("referral")));
            return true;
        }
        return false;
    }

    private static boolean addMessage(JsonNode item, GenericRecordBuilder event) {
        JsonNode message = item.get("message");
        if (message.path("is_echo").asBoolean()) {
            return false;
        }
        String text = message.path("text").asText(null);
        JsonNode hop = item.at("/hop_context/metadata");
        event.set("mid", message.get("mid").asText()).set("text", text);
        if (!hop.isMissingNode() && text != null && text.startsWith(SUMMARY)) {
            event.set("kind", "summary").set("outcome", Join.outcome(hop.asText()));
        } else {
            event.set("kind", "message");
        }
        return true;
    }

    private List<GenericRecord> answers(JsonNode rows) {
        List<GenericRecord> answers = new ArrayList<>();
        for (JsonNode row : rows) {
            GenericRecord pair = new GenericData.Record(answer);
            pair.put("question", row.get("question").asText());
            pair.put("answer", row.get("answer").asText());
            answers.add(pair);
        }
        return answers;
    }

    private GenericRecord ad(JsonNode referral) {
        JsonNode content = referral.get("ads_context_data");
        GenericRecord record = new GenericData.Record(ad);
        record.put("ad_id", referral.get("ad_id").asText());
        record.put("ad_title", content.get("ad_title").asText());
        record.put("post_id", content.get("post_id").asText());
        record.put("ref", referral.path("ref").asText(null));
        return record;
    }
}
