import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import tierstream.TierAnnouncement;

/** Prints tier changes, each of them once, until Ctrl-C. Usage: java -cp CLASSES Follow HOST:PORT GROUP [TOPIC] */
public class Follow implements ConsumerRebalanceListener {
    /** Customers a partition, and records that are looked at before the group's position. */
    static final int REMEMBER = 50_000;

    /** The latest `seq` of the customers that were announced last. */
    static class Latest extends LinkedHashMap<String, Long> {
        Latest() {
            super(16, 0.75f, true);
        }

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Long> eldest) {
            return size() > REMEMBER;
        }
    }

    /** Of a partition: the group's position, and what came last. */
    record Span(long begin, Latest latest) {}

    private final ObjectMapper json = Json.mapper();
    private final KafkaConsumer<String, String> consumer;
    private final Map<TopicPartition, Span> spans = new HashMap<>();
    private final Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();

    Follow(String broker, String group) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", broker,
                "group.id", group,
                "isolation.level", "read_committed", // not what a transaction took back
                "enable.auto.commit", false, // what is handled is committed, and nothing else
                "auto.offset.reset", "none");
        consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    void handle(TierAnnouncement change) {
        if (change.getAfter() == null)
            System.out.printf("%s %d is to be forgotten%n", change.getCustomerId(), change.getSeq());
        else
            System.out.printf("%s %d %s %s -> %s%n", change.getCustomerId(), change.getSeq(), change.getChange(),
                    change.getBefore().getTier(), change.getAfter().getTier());
    }

    /** Go back before the group's positions, so as to know what came last. */
    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.copyOf(assigned));
        Map<TopicPartition, Long> firsts = consumer.beginningOffsets(assigned);
        Map<TopicPartition, Long> ends = consumer.endOffsets(assigned);
        for (TopicPartition partition : assigned) {
            long first = firsts.get(partition);
            OffsetAndMetadata position = committed.get(partition);
            long begin = position == null ? first : position.offset();
            if (begin < first || begin > ends.get(partition))
                throw new IllegalStateException("%s is to be read from %d, but has %d to %d"
                        .formatted(partition, begin, first, ends.get(partition)));
            spans.put(partition, new Span(begin, new Latest()));
            consumer.seek(partition, Math.max(first, begin - REMEMBER));
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        commit();
        spans.keySet().removeAll(revoked);
    }

    /** Handle a record if it is new. */
    private void take(ConsumerRecord<String, String> record, Span span) throws JsonProcessingException {
        TierAnnouncement change = json.readValue(record.value(), TierAnnouncement.class);
        String customer = change.getCustomerId();
        Long seen = span.latest().get(customer);
        if (record.offset() >= span.begin()) {
            if (seen != null && change.getPreviousSeq() > seen)
                System.err.printf("announcements of %s after %d up to %d are missing%n",
                        customer, seen, change.getPreviousSeq());
            if (seen == null || change.getSeq() > seen) handle(change); // else it is a repeat
        }
        span.latest().put(customer, Math.max(change.getSeq(), seen == null ? 0 : seen));
    }

    void run(String topic) throws JsonProcessingException {
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // Ctrl-C
            consumer.wakeup();
            try {
                ended.await();
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
        try {
            consumer.subscribe(List.of(topic), this);
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    take(record, spans.get(partition));
                    if (record.offset() >= spans.get(partition).begin())
                        done.put(partition, new OffsetAndMetadata(record.offset() + 1));
                }
                commit();
            }
        } catch (WakeupException stopped) {
            commit();
        } finally {
            consumer.close();
            ended.countDown();
        }
    }

    /** After a crash, what came since the last commit is read again. */
    private void commit() {
        consumer.commitSync(done);
        done.clear();
    }

    public static void main(String[] arguments) {
        if (arguments.length < 2) {
            System.err.println("Usage: Follow HOST:PORT GROUP [TOPIC]");
            System.exit(2);
        }
        try {
            new Follow(arguments[0], arguments[1]).run(arguments.length > 2 ? arguments[2] : "tier-changes");
        } catch (KafkaException | JsonProcessingException failure) {
            System.err.println(failure.getCause() == null ? failure.getMessage() : failure.getCause().getMessage());
            System.exit(1);
        }
    }
}
