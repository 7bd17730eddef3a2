import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams: splits webhooks or joins events, with a persistent store (RocksDB) and its changelog.
 *
 * <p>Run as {@code java Yardstick split|join SCHEMAS}, where SCHEMAS is the folder of the .avsc files; LEADSTREAM_…
 * variables say where Kafka is. It leaves out what tests/benchmarks/others/work.py leaves out. The store caches, as
 * Kafka Streams does by default, so a person who comes twice between two commits is written to the changelog once.
 */
public final class Yardstick {
    public static void main(String[] arguments) throws Exception {
        String prefix = System.getenv("LEADSTREAM_TOPIC_PREFIX");
        Path schemas = Path.of(arguments[1]);
        Avro events = new Avro(8, Files.readString(schemas.resolve("event.v2.avsc")));
        Avro leads = new Avro(9, Files.readString(schemas.resolve("lead.v2.avsc")));

        Topology topology = new Topology();
        if (arguments[0].equals("split")) {
            topology.addSource("webhooks", prefix + "messenger-webhooks");
            topology.addProcessor("split", () -> new Split(events), "webhooks");
            topology.addSink("events", prefix + "messenger-events", "split");
        } else {
            topology.addSource("events", prefix + "messenger-events");
            topology.addProcessor("join", () -> new Join(events, leads), "events");
            var people = Stores.persistentKeyValueStore(Join.STORE);
            topology.addStateStore(
                    Stores.keyValueStoreBuilder(people, Serdes.ByteArray(), Serdes.ByteArray()).withCachingEnabled(),
                    "join");
            topology.addSink("leads", prefix + "leads", "join");
        }
        KafkaStreams streams = new KafkaStreams(topology, settings(prefix));
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(fault -> {
            fault.printStackTrace();
            failed.countDown();
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse
                    .SHUTDOWN_CLIENT;
        });
        streams.start();
        failed.await();
        System.exit(1);
    }

    private static Properties settings(String prefix) throws Exception {
        Properties settings = new Properties();
        settings.putAll(Map.of(
                StreamsConfig.APPLICATION_ID_CONFIG, prefix + "kafka-streams",
                StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("LEADSTREAM_BROKER"),
                StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("kafka-streams-").toString(),
                StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass(),
                StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass(),
                StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000,
                StreamsConfig.REPLICATION_FACTOR_CONFIG, 1));
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }
}
