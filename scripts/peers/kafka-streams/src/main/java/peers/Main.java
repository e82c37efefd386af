package peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The simplified fold on Kafka Streams: the Processor API, a store in memory, a changelog. */
public final class Main {
    private static final String USAGE = """
        usage: java -cp peer.jar:lib/* peers.Main --broker HOST:PORT --source TOPIC --name NAME --fold FILE
                                                  [--state-dir DIR] [--exactly-once] [--no-cache]

        The simplified fold on Kafka Streams. It reads the source from its beginning and runs until SIGTERM.
          --fold FILE       the constants: scripts/peers/fold.json
          --state-dir DIR   where the engine keeps its files; default: a new folder, removed at the end
          --exactly-once    exactly_once_v2 in place of at_least_once
          --no-cache        no record cache before the store

        example:
          java -cp '.cache/peers/kafka-streams/peer.jar:.cache/peers/kafka-streams/lib/*' peers.Main \\
            --broker 127.0.0.1:9092 --source purchases --name try1 --fold scripts/peers/fold.json""";
    private static final List<String> REQUIRED = List.of("--broker", "--source", "--name", "--fold");
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = parse(arguments);
        Ladder ladder = Ladder.read(Path.of(options.get("--fold")));
        boolean temporary = !options.containsKey("--state-dir");
        Path stateDir = temporary ? Files.createTempDirectory("peer-kafka-streams-") : Path.of(options.get("--state-dir"));

        KafkaStreams streams = new KafkaStreams(topology(options, ladder), settings(options, stateDir));
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            failed.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(PATIENCE);
            if (temporary) {
                streams.cleanUp();
                stateDir.resolve(options.get("--name")).toFile().delete();
                stateDir.toFile().delete();
            }
        }));
        streams.start();
        failed.await();
        System.exit(1);
    }

    private static Topology topology(Map<String, String> options, Ladder ladder) {
        StoreBuilder<KeyValueStore<byte[], Customer>> customers =
            Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(Fold.STORE), Serdes.ByteArray(), CustomerSerde.create())
                .withLoggingEnabled(Map.of());
        if (options.containsKey("--no-cache")) {
            customers.withCachingDisabled();
        } else {
            customers.withCachingEnabled();
        }
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        return new Topology()
            .addSource(AutoOffsetReset.earliest(), "purchases", bytes, bytes, options.get("--source"))
            .addProcessor("fold", () -> new Fold(ladder), "purchases")
            .addStateStore(customers, "fold")
            .addSink("tier-changes", options.get("--name") + "-tier-changes", new ByteArraySerializer(), new ByteArraySerializer(), "fold");
    }

    private static Properties settings(Map<String, String> options, Path stateDir) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("--name"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("--broker"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, stateDir.toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
            options.containsKey("--exactly-once") ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        // Large enough that the commit interval, and not the size, decides when the cache is written.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 200_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 4_000);
        return settings;
    }

    private static Map<String, String> parse(String[] arguments) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--help", "-h" -> {
                    System.out.println(USAGE);
                    System.exit(0);
                }
                case "--exactly-once", "--no-cache" -> options.put(arguments[i], "");
                case "--broker", "--source", "--name", "--fold", "--state-dir" -> {
                    if (i + 1 == arguments.length) {
                        wrong(arguments[i] + " needs a value");
                    }
                    options.put(arguments[i], arguments[++i]);
                }
                default -> wrong("there is no option " + arguments[i]);
            }
        }
        REQUIRED.stream().filter(name -> !options.containsKey(name)).forEach(name -> wrong(name + " is missing"));
        return options;
    }

    private static void wrong(String why) {
        System.err.println(why + "\n\n" + USAGE);
        System.exit(2);
    }
}
