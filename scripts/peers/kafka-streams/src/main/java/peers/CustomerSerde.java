package peers;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.ByteUtils;

/** A customer in few bytes: variable-length numbers; each day is stored as its distance from the one before. */
final class CustomerSerde {
    private static final int LONGEST_PAIR = 20;
    private static final int LONGEST_HEAD = 15;

    private CustomerSerde() {}

    static Serde<Customer> create() {
        // One thread, so one buffer.
        ByteBuffer[] scratch = {ByteBuffer.allocate(1024)};
        return Serdes.serdeFrom(
            (topic, customer) -> customer == null ? null : write(customer, scratch),
            (Deserializer<Customer>) (topic, bytes) -> bytes == null ? null : read(ByteBuffer.wrap(bytes)));
    }

    private static byte[] write(Customer customer, ByteBuffer[] scratch) {
        int most = LONGEST_HEAD + customer.size * LONGEST_PAIR;
        if (scratch[0].capacity() < most) {
            scratch[0] = ByteBuffer.allocate(2 * most);
        }
        ByteBuffer buffer = scratch[0].clear();
        ByteUtils.writeUnsignedVarint(customer.tier, buffer);
        ByteUtils.writeUnsignedVarint(customer.seq, buffer);
        ByteUtils.writeUnsignedVarint(customer.size, buffer);
        long before = 0;
        for (int i = 0; i < customer.size; i++) {
            ByteUtils.writeVarlong(customer.days[i] - before, buffer);
            ByteUtils.writeVarlong(customer.nets[i], buffer);
            before = customer.days[i];
        }
        byte[] bytes = new byte[buffer.flip().remaining()];
        buffer.get(bytes);
        return bytes;
    }

    private static Customer read(ByteBuffer buffer) {
        int tier = ByteUtils.readUnsignedVarint(buffer);
        int seq = ByteUtils.readUnsignedVarint(buffer);
        int size = ByteUtils.readUnsignedVarint(buffer);
        // Room for one more day: the next event usually adds one.
        Customer customer = new Customer(size + 1);
        customer.tier = tier;
        customer.seq = seq;
        customer.size = size;
        long before = 0;
        for (int i = 0; i < size; i++) {
            before = customer.days[i] = before + ByteUtils.readVarlong(buffer);
            customer.nets[i] = ByteUtils.readVarlong(buffer);
        }
        return customer;
    }
}
