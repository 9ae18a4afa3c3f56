package fraudstream;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.transformations.SourceTransformation;
import org.apache.flink.streaming.connectors.kafka.table.KafkaDynamicSource;
import org.apache.flink.streaming.connectors.kafka.table.KafkaDynamicTableFactory;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsReadingMetadata;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.types.DataType;

/**
 * The connector {@code fraudstream-kafka}: Flink's own for Kafka, which steps over records that the
 * Kafka client cannot read. Its plan and state are those of {@code kafka}, so either continues from
 * the other's checkpoint.
 *
 * <p>The option {@code step-over} names them: {@code PARTITION:FIRST-NEXT}, separated by a semicolon.
 */
public class SteppingTableFactory implements DynamicTableSourceFactory {
    private static final ConfigOption<String> STEP_OVER =
            ConfigOptions.key("step-over").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "fraudstream-kafka";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Collections.singleton(STEP_OVER);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return new HashSet<>();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        List<SteppingSource.Gap> gaps =
                parse(context.getCatalogTable().getOptions().get(STEP_OVER.key()));
        KafkaDynamicTableFactory kafka =
                new KafkaDynamicTableFactory() {
                    @Override
                    public Set<ConfigOption<?>> optionalOptions() {
                        Set<ConfigOption<?>> options = new HashSet<>(super.optionalOptions());
                        options.add(STEP_OVER);
                        return options;
                    }
                };
        return new Table((KafkaDynamicSource) kafka.createDynamicTableSource(context), gaps);
    }

    private static List<SteppingSource.Gap> parse(String text) {
        List<SteppingSource.Gap> gaps = new ArrayList<>();
        for (String gap : text.split(";")) {
            String[] numbers = gap.split("[:-]");
            gaps.add(
                    new SteppingSource.Gap(
                            Integer.parseInt(numbers[0]),
                            Long.parseLong(numbers[1]),
                            Long.parseLong(numbers[2])));
        }
        return gaps;
    }

    private static class Table implements ScanTableSource, SupportsReadingMetadata {
        private final KafkaDynamicSource kafka;
        private final List<SteppingSource.Gap> gaps;

        Table(KafkaDynamicSource kafka, List<SteppingSource.Gap> gaps) {
            this.kafka = kafka;
            this.gaps = gaps;
        }

        @Override
        public ChangelogMode getChangelogMode() {
            return kafka.getChangelogMode();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            DataStreamScanProvider provider =
                    (DataStreamScanProvider) kafka.getScanRuntimeProvider(context);
            return new DataStreamScanProvider() {
                @Override
                @SuppressWarnings("unchecked")
                public DataStream<RowData> produceDataStream(
                        ProviderContext context, StreamExecutionEnvironment environment) {
                    SourceTransformation<RowData, KafkaPartitionSplit, KafkaSourceEnumState> source =
                            (SourceTransformation<
                                            RowData, KafkaPartitionSplit, KafkaSourceEnumState>)
                                    provider.produceDataStream(context, environment)
                                            .getTransformation();
                    return environment.fromSource(
                            new SteppingSource<>(source.getSource(), gaps),
                            WatermarkStrategy.noWatermarks(),
                            source.getName(),
                            source.getOutputType());
                }

                @Override
                public boolean isBounded() {
                    return provider.isBounded();
                }
            };
        }

        @Override
        public DynamicTableSource copy() {
            return new Table((KafkaDynamicSource) kafka.copy(), gaps);
        }

        @Override
        public String asSummaryString() {
            return kafka.asSummaryString();
        }

        @Override
        public Map<String, DataType> listReadableMetadata() {
            return kafka.listReadableMetadata();
        }

        @Override
        public void applyReadableMetadata(List<String> keys, DataType produced) {
            kafka.applyReadableMetadata(keys, produced);
        }
    }
}
