package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.UUID;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Books each purchase on its customer, and forwards the tier changes. */
final class Fold implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "customers";
    private static final JsonFactory JSON = new JsonFactory();

    private final Ladder ladder;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], Customer> customers;

    Fold(Ladder ladder) {
        this.ladder = ladder;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        customers = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> message) {
        try {
            Purchase purchase = Purchase.decode(message.value());
            Customer customer = customers.get(message.key());
            if (customer == null) {
                customer = new Customer(1);
            }
            customer.add(Math.floorDiv(purchase.occurredAtMs(), Ladder.DAY_MS), purchase.netMinor());
            customer.drop(ladder.windowMs(), purchase.occurredAtMs());
            long spend = customer.spend();
            int before = customer.tier;
            customer.tier = ladder.rankOf(spend);
            if (customer.tier != before) {
                customer.seq++;
                context.forward(message.withValue(change(purchase, customer, before, spend)));
            }
            customers.put(message.key(), customer);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private byte[] change(Purchase purchase, Customer customer, int before, long spend) throws IOException {
        String identity = purchase.customerId() + "/" + customer.seq;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(384);
        try (JsonGenerator json = JSON.createGenerator(bytes)) {
            json.writeStartObject();
            json.writeStringField("id", UUID.nameUUIDFromBytes(identity.getBytes(StandardCharsets.UTF_8)).toString());
            json.writeNumberField("seq", customer.seq);
            json.writeStringField("customer_id", purchase.customerId());
            json.writeStringField("change", customer.tier > before ? "upgrade" : "downgrade");
            json.writeStringField("occurred_at", purchase.occurredAt());
            json.writeStringField("cause", purchase.eventId());
            writeTier(json, "before", before);
            writeTier(json, "after", customer.tier);
            json.writeStringField("spend", BigDecimal.valueOf(spend, 2).toPlainString());
            json.writeEndObject();
        }
        return bytes.toByteArray();
    }

    private void writeTier(JsonGenerator json, String field, int rank) throws IOException {
        json.writeObjectFieldStart(field);
        json.writeStringField("tier", ladder.names().get(rank));
        json.writeEndObject();
    }
}
