"""CI, `.ci/run`, the hooks of a commit and the Makefile run the same things."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
YAML_FILES = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])


def parsed(path: str) -> dict[str, Any]:
    """Parse a YAML file; the key `on` of a workflow is a string there, as on the platform."""
    loaded: dict[Any, Any] = yaml.safe_load((ROOT / path).read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in loaded.items()}


def make_targets(job: dict[str, Any]) -> list[str]:
    """Return the targets that a job's steps make, in order."""
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    return re.findall(r"^make ([\w-]+)", commands, re.MULTILINE)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_a_file_of_the_platform_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_ci_makes_the_targets_of_the_script() -> None:
    """What passes here passes there: checks and fast tests on a push, every test at night."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    fast, separator, whole = script.partition('if [ "${1:-}" = fast ]; then')
    assert separator
    checks = re.findall(r"^make ([\w-]+)", fast, re.MULTILINE)
    inside, _, after = whole.partition("\nfi\n")
    jobs = parsed(".github/workflows/ci.yml")["jobs"]
    pattern = re.compile(r"^ *make ([\w-]+)", re.MULTILINE)
    assert make_targets(jobs["fast"]) == checks + pattern.findall(inside) == ["check", "test-fast"]
    assert make_targets(jobs["whole"]) == checks + pattern.findall(after) == ["check", "test"]


def test_every_target_of_ci_is_in_the_makefile() -> None:
    declared = set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE))
    jobs = parsed(".github/workflows/ci.yml")["jobs"].values()
    assert {target for job in jobs for target in make_targets(job)} <= declared


def test_ci_runs_on_each_push_at_night_and_on_demand() -> None:
    """Each event starts one of the jobs, which may read the repository and write nothing."""
    workflow = parsed(".github/workflows/ci.yml")
    assert set(workflow["on"]) == {"push", "pull_request", "schedule", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    started = {
        name: set(re.findall(r"github\.event_name == '(\w+)'", job["if"]))
        for name, job in workflow["jobs"].items()
    }
    assert started == {
        "fast": {"push", "pull_request"},
        "whole": {"schedule", "workflow_dispatch"},
    }


def test_a_commit_runs_the_tools_of_make_check() -> None:
    """Each hook uses the locked version from .venv; the last looks at file sizes."""
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    checks = {
        tuple(word for word in shlex.split(line) if word not in {".", "--check"})
        for line in recipe[1].replace("\t@$(BIN)/", "").splitlines()
    }
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    *tools, sizes = repository["hooks"]
    assert sizes["id"] == "large-files"
    hooks = {
        tuple(word for word in shlex.split(hook["entry"]) if word != "--force-exclude")
        for hook in tools
    }
    assert hooks == {(f".venv/bin/{tool}", *arguments) for tool, *arguments in checks}


def test_forms_ask_for_what_they_name() -> None:
    """A form without a name, description or body is not shown."""
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = sorted(set(folder.glob("*.yml")) - {folder / "config.yml"})
    assert forms
    for form in forms:
        content = parsed(str(form.relative_to(ROOT)))
        assert content["name"]
        assert content["description"]
        asked = [field for field in content["body"] if field["type"] != "markdown"]
        identifiers = [field["id"] for field in asked]
        assert len(identifiers) == len(set(identifiers)) > 0
        assert all(field["attributes"]["label"] for field in asked)
