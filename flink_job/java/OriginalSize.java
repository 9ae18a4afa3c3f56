package fraudstream;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * Describes a record of which a dead letter cannot keep everything: the bytes of its key, the bytes
 * of its value, the SHA-256 of its value and the bytes of its headers, separated by a space. Null
 * for any other record.
 */
public class OriginalSize extends ScalarFunction {
    private static final byte[] NOTHING = new byte[0];

    public String eval(
            byte[] key,
            byte[] value,
            @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> headers,
            Integer mostKey,
            Integer mostValue,
            Integer mostHeaders) {
        byte[] keyBytes = key == null ? NOTHING : key;
        byte[] valueBytes = value == null ? NOTHING : value;
        long headerBytes = FirstHeaders.size(headers);
        if (keyBytes.length <= mostKey
                && valueBytes.length <= mostValue
                && headerBytes <= mostHeaders) {
            return null;
        }
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(valueBytes);
            return keyBytes.length
                    + " " + valueBytes.length
                    + " " + HexFormat.of().formatHex(digest)
                    + " " + headerBytes;
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
