package fraudstream;

import java.util.Arrays;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * Returns what is read of a value: all of it, or, when any part of its record is too large, one byte
 * more than may be decided, so that whoever reads it refuses it by its length.
 */
public class ToRead extends ScalarFunction {
    public byte[] eval(byte[] value, String originalSize, Integer most) {
        if (originalSize == null) {
            return value;
        }
        return value == null ? new byte[most + 1] : Arrays.copyOf(value, most + 1);
    }
}
