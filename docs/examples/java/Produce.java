import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;
import tierstream.Purchase;

/** Sends purchases, one JSON object a line. Usage: java -cp CLASSES Produce HOST:PORT [TOPIC] < purchases.jsonl */
public class Produce {
    public static void main(String[] arguments) throws IOException {
        if (arguments.length == 0) {
            System.err.println("Usage: Produce HOST:PORT [TOPIC] < purchases.jsonl");
            System.exit(2);
        }
        String topic = arguments.length > 1 ? arguments[1] : "purchases";
        ObjectMapper json = Json.mapper();
        long number = 0;
        AtomicReference<Exception> failure = new AtomicReference<>();
        // The default partitioner is the right one. The key is the customer's id itself: StringSerializer, not JSON.
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0]);
        try (var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
                var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (String line; (line = lines.readLine()) != null && failure.get() == null; ) {
                number++;
                String customer = json.readValue(line, Purchase.class).getCustomerId();
                producer.send(new ProducerRecord<>(topic, customer, line), (written, error) -> {
                    if (error != null) failure.compareAndSet(null, error);
                });
            }
        } catch (JsonProcessingException error) {
            failure.set(new IOException("line %d: %s".formatted(number, error.getOriginalMessage())));
        } // all that came before it are sent
        if (failure.get() != null) {
            System.err.println(failure.get().getMessage());
            System.exit(1);
        }
    }
}
