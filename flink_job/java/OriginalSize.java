package fraudstream;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * Describes a record of which a dead letter cannot keep everything: the bytes of its key, the bytes
 * of its value and the SHA-256 of its value, separated by a space. Null for any other record.
 */
public class OriginalSize extends ScalarFunction {
    private static final byte[] NOTHING = new byte[0];

    public String eval(byte[] key, byte[] value, Integer mostKey, Integer mostValue) {
        byte[] keyBytes = key == null ? NOTHING : key;
        byte[] valueBytes = value == null ? NOTHING : value;
        if (keyBytes.length <= mostKey && valueBytes.length <= mostValue) {
            return null;
        }
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(valueBytes);
            return keyBytes.length + " " + valueBytes.length + " " + HexFormat.of().formatHex(digest);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
