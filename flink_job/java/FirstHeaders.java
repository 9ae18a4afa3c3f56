package fraudstream;

import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/** Returns the headers that fit into the given bytes, in the order of their names; never null. */
public class FirstHeaders extends ScalarFunction {
    public @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> eval(
            @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> headers, Integer most) {
        if (headers == null) {
            return Collections.emptyMap();
        }
        if (size(headers) <= most) {
            return headers;
        }
        Map<String, byte[]> kept = new HashMap<>();
        long left = most;
        for (Map.Entry<String, byte[]> header : new TreeMap<>(headers).entrySet()) {
            left -= size(header);
            if (left < 0) {
                break;
            }
            kept.put(header.getKey(), header.getValue());
        }
        return kept;
    }

    /** Returns the bytes of all names and values. */
    static long size(Map<String, byte[]> headers) {
        long size = 0;
        if (headers != null) {
            for (Map.Entry<String, byte[]> header : headers.entrySet()) {
                size += size(header);
            }
        }
        return size;
    }

    private static long size(Map.Entry<String, byte[]> header) {
        byte[] value = header.getValue();
        return header.getKey().getBytes(StandardCharsets.UTF_8).length
                + (value == null ? 0 : value.length);
    }
}
