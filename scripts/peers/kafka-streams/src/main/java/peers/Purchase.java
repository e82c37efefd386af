package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.math.BigDecimal;
import java.time.Instant;

/** The fields of a purchase or refund that the fold needs. */
record Purchase(String eventId, String customerId, long netMinor, String occurredAt, long occurredAtMs) {
    private static final JsonFactory JSON = new JsonFactory();

    static Purchase decode(byte[] value) throws IOException {
        String eventId = null;
        String customerId = null;
        String kind = null;
        String amount = null;
        String occurredAt = null;
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            for (String field = parser.nextFieldName(); field != null; field = parser.nextFieldName()) {
                switch (field) {
                    case "event_id" -> eventId = parser.nextTextValue();
                    case "customer_id" -> customerId = parser.nextTextValue();
                    case "kind" -> kind = parser.nextTextValue();
                    case "amount" -> amount = parser.nextTextValue();
                    case "occurred_at" -> occurredAt = parser.nextTextValue();
                    default -> {
                        parser.nextToken();
                        parser.skipChildren();
                    }
                }
            }
            if (parser.currentToken() != JsonToken.END_OBJECT) {
                throw new IOException("a purchase is a JSON object");
            }
        }
        long minor = minorUnits(amount);
        long net = kind.equals("purchase") ? minor : -minor;
        return new Purchase(eventId, customerId, net, occurredAt, Instant.parse(occurredAt).toEpochMilli());
    }

    /** The cents of a decimal with at most two decimals. */
    private static long minorUnits(String amount) {
        return new BigDecimal(amount).movePointRight(2).longValueExact();
    }
}
