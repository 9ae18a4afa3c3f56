package fraudstream;

import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.KafkaException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.AuthenticationException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.AuthorizationException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.RetriableException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Finds the first record of each partition that the Kafka client cannot read, by reading as the job
 * does, in a process whose heap bounds what one record may take.
 *
 * <p>Arguments are a topic and, per partition, {@code PARTITION:OFFSET} to begin at; the settings of
 * the client come on standard input. Prints {@code PARTITION OFFSET NEXT ERROR} of each that it
 * finds: reading ends before OFFSET, and goes on at NEXT, the first offset of another batch.
 */
public class FindUnreadable {
    private static final Duration POLL = Duration.ofSeconds(1);
    private static final int POLLS_WITHOUT_PROGRESS = 10;

    private final Properties properties = new Properties();
    private final String topic;

    private FindUnreadable(String topic) throws Exception {
        this.topic = topic;
        properties.load(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        // One batch a request and one record a poll: nothing is held but what is being read.
        properties.setProperty("max.poll.records", "1");
        properties.setProperty("max.partition.fetch.bytes", "1");
        properties.setProperty("fetch.max.bytes", "1");
        properties.setProperty("isolation.level", "read_committed");
        properties.setProperty("enable.auto.commit", "false");
        properties.setProperty("auto.offset.reset", "earliest");
    }

    public static void main(String[] arguments) throws Exception {
        FindUnreadable search = new FindUnreadable(arguments[0]);
        for (int at = 1; at < arguments.length; at++) {
            String[] place = arguments[at].split(":");
            search.look(Integer.parseInt(place[0]), Long.parseLong(place[1]));
        }
    }

    private void look(int partition, long offset) {
        Read read = read(partition, offset, Long.MAX_VALUE);
        if (read.error == null) {
            return;
        }
        // The offsets of one batch fail alike, so the first that does not is of another batch.
        long inside = read.position;
        long step = 1;
        while (read(partition, inside + step, 1).error != null) {
            inside += step;
            step *= 2;
        }
        long outside = inside + step;
        while (outside - inside > 1) {
            long middle = inside + (outside - inside) / 2;
            if (read(partition, middle, 1).error != null) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        System.out.println(partition + " " + read.position + " " + outside + " " + read.error);
    }

    private static class Read {
        long position;
        String error;
    }

    /** Reads until the end of the partition, the given number of records, or an error. */
    private Read read(int partition, long offset, long most) {
        TopicPartition place = new TopicPartition(topic, partition);
        Read read = new Read();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(
                        properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(place));
            long end = consumer.endOffsets(List.of(place)).get(place);
            consumer.seek(place, offset);
            read.position = offset;
            int idle = 0;
            long count = 0;
            while (read.position < end && count < most && idle < POLLS_WITHOUT_PROGRESS) {
                try {
                    count += consumer.poll(POLL).count();
                } catch (RetriableException | AuthenticationException | AuthorizationException error) {
                    throw error;
                } catch (OutOfMemoryError | KafkaException error) {
                    read.error = error.toString().replaceAll("\\s+", " ");
                    return read;
                }
                long position = consumer.position(place);
                idle = position == read.position ? idle + 1 : 0;
                read.position = position;
            }
        }
        return read;
    }
}
