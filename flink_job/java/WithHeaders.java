package fraudstream;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * Returns the headers of a dead letter: the input's, and ours in place of any of the same name. One
 * of ours without a value removes the name, so that no input can pass for a record that was cut.
 */
public class WithHeaders extends ScalarFunction {
    public @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> eval(
            @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> input,
            @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> ours) {
        Map<String, byte[]> headers = new HashMap<>(input);
        for (Map.Entry<String, byte[]> header : ours.entrySet()) {
            if (header.getValue() == null) {
                headers.remove(header.getKey());
            } else {
                headers.put(header.getKey(), header.getValue());
            }
        }
        return headers;
    }
}
