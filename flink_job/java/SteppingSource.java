package fraudstream;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * Flink's Kafka source, which stops before each gap of a partition and goes on after it.
 *
 * <p>It needs {@code max.poll.records=1}: a larger poll would run into the gap before it stops.
 */
public class SteppingSource<T> implements Source<T, KafkaPartitionSplit, KafkaSourceEnumState> {
    private static final long serialVersionUID = 1;

    /** Offsets of a partition that are not read: {@code first} is the first, {@code next} is read again. */
    public static class Gap implements Serializable {
        private static final long serialVersionUID = 1;

        final int partition;
        final long first;
        final long next;

        Gap(int partition, long first, long next) {
            this.partition = partition;
            this.first = first;
            this.next = next;
        }
    }

    private final Source<T, KafkaPartitionSplit, KafkaSourceEnumState> kafka;
    private final List<Gap> gaps;

    SteppingSource(Source<T, KafkaPartitionSplit, KafkaSourceEnumState> kafka, List<Gap> gaps) {
        this.kafka = kafka;
        this.gaps = new ArrayList<>(gaps);
    }

    /** Returns the next gap at or after an offset; null without one. */
    private Gap gapOf(int partition, long offset) {
        Gap nearest = null;
        for (Gap gap : gaps) {
            if (gap.partition == partition
                    && offset < gap.next
                    && (nearest == null || gap.first < nearest.first)) {
                nearest = gap;
            }
        }
        return nearest;
    }

    /** Returns a split that ends before the next gap; one that begins inside a gap begins after it. */
    private KafkaPartitionSplit untilGap(KafkaPartitionSplit split) {
        Gap gap = gapOf(split.getPartition(), split.getStartingOffset());
        if (gap == null) {
            // Not without an end: Flink's reader would keep that of the partition's part before.
            return new KafkaPartitionSplit(
                    split.getTopicPartition(), split.getStartingOffset(), Long.MAX_VALUE);
        }
        if (split.getStartingOffset() >= gap.first) {
            return untilGap(new KafkaPartitionSplit(split.getTopicPartition(), gap.next));
        }
        return new KafkaPartitionSplit(
                split.getTopicPartition(), split.getStartingOffset(), gap.first);
    }

    @Override
    public Boundedness getBoundedness() {
        return kafka.getBoundedness();
    }

    @Override
    public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> createEnumerator(
            SplitEnumeratorContext<KafkaPartitionSplit> context) throws Exception {
        return kafka.createEnumerator(context);
    }

    @Override
    public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> restoreEnumerator(
            SplitEnumeratorContext<KafkaPartitionSplit> context, KafkaSourceEnumState state)
            throws Exception {
        return kafka.restoreEnumerator(context, state);
    }

    @Override
    public SimpleVersionedSerializer<KafkaPartitionSplit> getSplitSerializer() {
        return kafka.getSplitSerializer();
    }

    @Override
    public SimpleVersionedSerializer<KafkaSourceEnumState> getEnumeratorCheckpointSerializer() {
        return kafka.getEnumeratorCheckpointSerializer();
    }

    @Override
    public SourceReader<T, KafkaPartitionSplit> createReader(SourceReaderContext context)
            throws Exception {
        return new Reader(kafka.createReader(context));
    }

    private class Reader implements SourceReader<T, KafkaPartitionSplit> {
        private final SourceReader<T, KafkaPartitionSplit> reader;
        private final Map<String, KafkaPartitionSplit> splits = new HashMap<>();
        private final List<String> finished = new ArrayList<>();

        Reader(SourceReader<T, KafkaPartitionSplit> reader) {
            this.reader = reader;
        }

        @Override
        public void start() {
            reader.start();
        }

        @Override
        public void addSplits(List<KafkaPartitionSplit> added) {
            List<KafkaPartitionSplit> bounded = new ArrayList<>();
            for (KafkaPartitionSplit split : added) {
                KafkaPartitionSplit part = untilGap(split);
                splits.put(part.splitId(), part);
                bounded.add(part);
            }
            reader.addSplits(bounded);
        }

        @Override
        public InputStatus pollNext(ReaderOutput<T> output) throws Exception {
            InputStatus status = reader.pollNext(new Noticing(output));
            if (!finished.isEmpty()) {
                // All before the gap was handed on: continue after it.
                List<KafkaPartitionSplit> after = new ArrayList<>();
                for (String id : finished) {
                    KafkaPartitionSplit before = splits.get(id);
                    after.add(
                            new KafkaPartitionSplit(
                                    before.getTopicPartition(), before.getStoppingOffset().get()));
                }
                finished.clear();
                addSplits(after);
            }
            return status;
        }

        @Override
        public List<KafkaPartitionSplit> snapshotState(long checkpoint) {
            List<KafkaPartitionSplit> state = new ArrayList<>();
            for (KafkaPartitionSplit split : reader.snapshotState(checkpoint)) {
                // As Flink's source would have it: without an end.
                state.add(
                        new KafkaPartitionSplit(
                                split.getTopicPartition(), split.getStartingOffset()));
            }
            return state;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return reader.isAvailable();
        }

        @Override
        public void notifyNoMoreSplits() {
            reader.notifyNoMoreSplits();
        }

        @Override
        public void handleSourceEvents(SourceEvent event) {
            reader.handleSourceEvents(event);
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) throws Exception {
            reader.notifyCheckpointComplete(checkpoint);
        }

        @Override
        public void notifyCheckpointAborted(long checkpoint) throws Exception {
            reader.notifyCheckpointAborted(checkpoint);
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
            reader.pauseOrResumeSplits(pause, resume);
        }

        @Override
        public void close() throws Exception {
            reader.close();
        }

        /** Notices which splits have ended: their outputs are released. */
        private class Noticing implements ReaderOutput<T> {
            private final ReaderOutput<T> output;

            Noticing(ReaderOutput<T> output) {
                this.output = output;
            }

            @Override
            public void collect(T row) {
                output.collect(row);
            }

            @Override
            public void collect(T row, long timestamp) {
                output.collect(row, timestamp);
            }

            @Override
            public void emitWatermark(Watermark watermark) {
                output.emitWatermark(watermark);
            }

            @Override
            public void markIdle() {
                output.markIdle();
            }

            @Override
            public void markActive() {
                output.markActive();
            }

            @Override
            public SourceOutput<T> createOutputForSplit(String split) {
                return output.createOutputForSplit(split);
            }

            @Override
            public void releaseOutputForSplit(String split) {
                output.releaseOutputForSplit(split);
                finished.add(split);
            }
        }
    }
}
