package fraudstream;

import java.util.Arrays;
import org.apache.flink.metrics.Counter;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.functions.FunctionContext;

/**
 * Keeps the ring of a key: its last n records, oldest arrival first.
 *
 * <p>It is {@code remember} of fraud/features/history.py inside Flink's state. Records of one key
 * all have one length, and their first eight bytes identify the event. A record whose event is in
 * the ring already changes nothing; a null record neither.
 *
 * <p>The value is the ring and one more byte: 1 when the last record's event was in it before.
 *
 * <p>The metric {@code new_keys} counts the keys that had no ring.
 */
public class LastN extends AggregateFunction<byte[], LastN.Ring> {
    private static final int EVENT_BYTES = 8;

    private transient Counter newKeys;

    /** The state of one key: its records, and the byte that says whether the last one was known. */
    public static class Ring {
        public byte[] bytes = {0};
    }

    @Override
    public void open(FunctionContext context) {
        newKeys = context.getMetricGroup().counter("new_keys");
    }

    @Override
    public Ring createAccumulator() {
        return new Ring();
    }

    public void accumulate(Ring ring, Integer n, byte[] record) {
        if (record == null) {
            return;
        }
        byte[] old = ring.bytes;
        int length = old.length - 1;
        int size = record.length;
        if (length == 0) {
            newKeys.inc();
        }
        for (int at = 0; at < length; at += size) {
            if (Arrays.equals(old, at, at + EVENT_BYTES, record, 0, EVENT_BYTES)) {
                if (old[length] == 0) {
                    ring.bytes = old.clone();
                    ring.bytes[length] = 1;
                }
                return;
            }
        }
        int kept = Math.min(length, (n - 1) * size);
        byte[] bytes = new byte[kept + size + 1];
        System.arraycopy(old, length - kept, bytes, 0, kept);
        System.arraycopy(record, 0, bytes, kept, size);
        ring.bytes = bytes;
    }

    @Override
    public byte[] getValue(Ring ring) {
        return ring.bytes;
    }
}
