"""The commands, as a user types them."""

from __future__ import annotations

import csv
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from typer.testing import CliRunner, Result

from fraud.contracts.versions import shown
from fraud.security.audit import AuditLog
from model.commands import app
from model.datasets import SIMULATOR
from model.registry import BOOSTER_FILE, MANIFEST_FILE, Registry
from tests.support.histories import labelled_rows, write_rows

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def train_small(state: Path, *more: str) -> Result:
    data = write_rows(state / "rows.jsonl", labelled_rows())
    return run("train", "--data", data, "--search", "0", *more)


class Trained(NamedTuple):
    """What two trainings on the same rows left behind.

    Attributes:
        first: State folder after the first training, with its data in `rows.jsonl`.
        both: State folder after both.
        told: What each command printed.
    """

    first: Path
    both: Path
    told: list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Two models, trained once for all tests that need a trained one."""
    state = tmp_path_factory.mktemp("trained")
    first = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STATE_DIR", str(state))
        environment.setenv("MODEL_REGISTRY", str(state / "models"))
        results = [train_small(state, "--json", "--report", str(state / "page.html"))]
        shutil.copytree(state, first, dirs_exist_ok=True)
        with pytest.MonkeyPatch.context() as plots:
            plots.setitem(sys.modules, "matplotlib", None)
            results.append(train_small(state, "--json", "--seed", "8"))
        for result in results:
            assert result.exit_code == 0, result.output
        yield Trained(first, state, [orjson.loads(result.stdout) for result in results])


@pytest.fixture
def one_model(state: Path, trained: Trained) -> dict[str, Any]:
    """A state folder with one model, and what its training printed."""
    shutil.copytree(trained.first, state, dirs_exist_ok=True)
    return trained.told[0]


@pytest.fixture
def two_models(state: Path, trained: Trained) -> list[dict[str, Any]]:
    """A state folder with two models, and what their trainings printed."""
    shutil.copytree(trained.both, state, dirs_exist_ok=True)
    return trained.told


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as training; the report of the first training has its plots."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_the_first_model_decides_and_the_next_waits(
    state: Path, trained: Trained, two_models: list[dict[str, Any]]
) -> None:
    told, second = two_models
    assert told["champion"] is True
    assert Registry(trained.first / "models").champion().ref.version == told["version"]
    registry = Registry(state / "models")
    assert second["champion"] is False
    assert registry.champion_ref().version == told["version"]
    assert run("promote", f"fraud@{second['version'][:8]}", "--force", "--offline").exit_code == 0
    assert registry.champion_ref().version == second["version"]
    assert run("rollback", "--offline").exit_code == 0
    assert registry.champion_ref().version == told["version"]
    names = [f"fraud@{one['version']}" for one in (told, second)]
    records = AuditLog(state).page(10)[0][::-1]
    assert [(one.action, one.who.via, one.before, one.after) for one in records] == [
        ("model.promoted", "cli", {"model": before}, {"model": after})
        for before, after in ((None, names[0]), (names[0], names[1]), (names[1], names[0]))
    ]
    listed = orjson.loads(run("models", "--json").stdout)
    assert {one["version"]: one["champion"] for one in listed} == {
        told["version"]: True,
        second["version"]: False,
    }


@pytest.mark.usefixtures("without_plots")
def test_training_again_gives_the_same_files(state: Path, one_model: dict[str, Any]) -> None:
    version = one_model["version"]
    other = orjson.loads(train_small(state, "--json", "--registry", str(state / "two")).stdout)
    assert other["version"] == version
    trees = [state / folder / "fraud" / version / BOOSTER_FILE for folder in ("models", "two")]
    assert trees[0].read_bytes() == trees[1].read_bytes()


@pytest.mark.usefixtures("one_model", "without_plots")
def test_a_worse_model_is_refused_unless_forced(state: Path) -> None:
    """By `promote`, and by training with --promote: the better one goes on deciding."""
    best = Registry(state / "models").champion_ref()
    rows = labelled_rows()
    for row, other in zip(rows, random.Random(1).sample(rows, len(rows)), strict=True):
        if rows.index(row) < 0.8 * len(rows):
            row["label"] = other["label"]
    data = write_rows(state / "wrong.jsonl", rows)
    wrong = ("train", "--data", data, "--name", "wrong", "--search", "0")
    result = run(*wrong, "--promote", "--offline", "--json")
    assert result.exit_code == 2
    assert "not promoted: wrong@" in result.stderr
    assert orjson.loads(result.stdout)["champion"] is False
    refused = run("promote", "wrong", "--offline")
    assert refused.exit_code == 2
    assert "is worse: average precision" in refused.stderr
    named = run("promote", "wrong", "--offline", "--data", state / "rows.jsonl")
    assert named.exit_code == 2
    assert Registry(state / "models").champion_ref() == best
    assert run("promote", "wrong", "--force", "--offline").exit_code == 0
    assert Registry(state / "models").champion_ref().name == "wrong"


def test_the_report_is_one_page_that_fetches_nothing(trained: Trained) -> None:
    told = trained.told[0]
    text = (trained.first / "page.html").read_text()
    assert text == Path(told["report"]).read_text()
    assert text.count("<svg") >= 5
    assert f"fraud@{shown(told['version'])}" in text
    assert not re.search(r"(?:src|href)=.https?:|@import|url\(http", text)
    report = orjson.loads(Path(told["report"]).with_suffix(".json").read_bytes())
    assert report["metrics"]["intervals"]["average_precision"]
    assert report["curves"]["raw_fields"]


@pytest.mark.usefixtures("one_model")
def test_evaluate_measures_a_model_on_a_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_rows(state / "later.jsonl", labelled_rows(1500, seed=5))
    page = state / "page.html"
    result = run("evaluate", "--data", data, "--json", "--report", page, "--alerts-per-day", "3")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["rows"] == 1500
    assert told["auc"] > 0.7
    assert told["at_alerts_per_day"]["3"]["precision"] > 0.04
    assert "<svg" in page.read_text()
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as in the image `services`
    shown = run("evaluate", "--data", data, "--report", page)
    assert shown.exit_code == 0
    assert "average precision" in shown.stdout
    learnt = orjson.loads(run("evaluate", "--data", state / "rows.jsonl", "--json").stdout)["data"]
    assert 0 < learnt["learnt_from"] < learnt["rows"]
    assert "1,500 transactions are from before the model was trained" in shown.stdout.replace(
        "\n", " "
    )
    assert "<svg" not in page.read_text()
    assert "Not drawn: matplotlib is not installed." in page.read_text()


@pytest.mark.usefixtures("without_plots")
def test_simulated_figures_carry_their_warning(state: Path) -> None:
    rows = [
        dict(row, is_fraud=row["label"], campaign="ring" if row["label"] else "")
        for row in labelled_rows()
    ]
    rows[0]["made_by"] = SIMULATOR
    data = write_rows(state / "rows.jsonl", rows)
    result = run("train", "--data", data, "--search", "0")
    assert "predict nothing about anyone's traffic" in result.stdout
    assert "ring" in result.stdout


@pytest.mark.usefixtures("without_plots")
def test_if_missing_trains_once(state: Path) -> None:
    """As `make up` calls it: on the simulated history, without asking."""
    (state / "history").mkdir()
    write_rows(state / "history" / "history.jsonl", labelled_rows())
    assert run("train", "--if-missing").exit_code == 0
    champion = Registry(state / "models").champion_ref()
    again = run("train", "--if-missing")
    assert again.exit_code == 0
    assert "nothing to train" in again.stderr
    assert Registry(state / "models").champion_ref() == champion
    assert len(Registry(state / "models").models()) == 1


def test_without_files_there_must_be_a_history(state: Path) -> None:
    """The simulator is not this package's: the message names who has it."""
    result = run("train")
    assert result.exit_code == 2
    assert f"no simulated history in {state / 'history'}" in result.stderr
    assert "fraudstream train" in result.stderr


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("simulated", [True, False])
def test_if_missing_replaces_only_its_own_model_of_other_features(
    state: Path, monkeypatch: pytest.MonkeyPatch, simulated: bool
) -> None:
    """After an upgrade: a model on somebody's own data is theirs to train again."""
    (state / "history").mkdir()
    rows = write_rows(state / "history" / "history.jsonl", labelled_rows())
    with monkeypatch.context() as older:
        older.setattr("model.registry.FEATURES_HASH", "an older program")
        source = [] if simulated else ["--data", rows]
        assert run("train", "--search", "0", *source).exit_code == 0
    models = Registry(state / "models")
    old = models.champion_ref()
    result = run("train", "--if-missing")
    assert "does not match the features of this program" in result.stderr
    assert result.exit_code == (0 if simulated else 2)
    assert (models.champion_ref() != old) is simulated


def test_score_writes_what_the_stream_would_decide(state: Path, one_model: dict[str, Any]) -> None:
    version = one_model["version"]
    rows = labelled_rows(300, seed=9)
    rows[7]["transaction_amt"] = "none"
    data = write_rows(state / "new.jsonl", list(reversed(rows)))
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        result = run("score", "--data", data, "--model", "fraud", "--output", state / name)
        assert result.exit_code == 0, result.output
        assert "299 transactions scored" in result.stderr
        assert "1 refused" in result.stderr
    with (state / "out.csv").open(newline="") as file:
        scored = list(csv.DictReader(file))
    assert [one["event_id"] for one in scored] == [f"e{at}" for at in range(300) if at != 7]
    for one in scored:
        score = int(one["score"])
        # Rules on other things than the score may ask for a review, too.
        expected = {"approve", "review"}
        if score >= 900:
            expected = {"block"} if score >= 950 else {"review"}
        assert one["outcome"] in expected
        assert 0 < float(one["probability"]) < 1
    lines = [orjson.loads(line) for line in (state / "out.jsonl").read_bytes().splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == scored
    assert Registry(state / "models").champion_ref().version == version


@pytest.mark.usefixtures("without_plots")
@pytest.mark.slow
def test_a_strangers_file_can_be_trained_on_and_scored(state: Path) -> None:
    """The example file, published by others, by its mapping."""
    data, mapping = EXAMPLES / "transactions_2k.csv", EXAMPLES / "transactions_2k.toml"
    result = run("train", "--data", data, "--mapping", mapping, "--name", "example", "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["training"]["rows"] == 1611
    assert told["training"]["unlabelled"] == 801
    assert told["metrics"]["auc"] > 0.6
    assert told["training"]["amounts_without_rate"] > 1000
    assert told["metrics"]["frauds_with_amount"] < told["metrics"]["frauds"]
    unlabelled = [line.split(",") for line in data.read_text().splitlines()]
    gone = {unlabelled[0].index(name) for name in ("EVENT_LABEL", "LABEL_TIMESTAMP")}
    text = [",".join(cell for at, cell in enumerate(line) if at not in gone) for line in unlabelled]
    new = state / "new.csv"
    new.write_text("\n".join(text) + "\n")
    scored = run("score", "-d", new, "-m", mapping, "--model", "example", "-o", state / "o.csv")
    assert scored.exit_code == 0, scored.output
    assert "amounts have no exchange rate" in scored.stderr
    assert (state / "o.csv").read_text().count("\n") == 1612
    again = run("score", "-d", new, "-m", mapping, "--model", "example", "-o", new)
    assert again.exit_code == 2
    assert "would be overwritten" in again.stderr
    assert new.read_text() == "\n".join(text) + "\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--data", "nowhere.csv"], "no such file"),
        (["train", "--mapping", "m.toml"], "--mapping is of use with --data only"),
        (["train", "--data", "x.jsonl", "--name", "../x"], "model name '../x'"),
        (["train", "--data", "x.jsonl", "--report", "no/page.html"], "no/page.html: no such folder"),
        (["evaluate", "--data", "x.jsonl", "--report", "."], ".: is a folder"),
        (["train", "--data", "x.jsonl", "--registry", "x.jsonl/models"], "model registry x.jsonl/models: Not a directory"),
        (["train", "--data", "."], "is a folder; name its files"),
        (["promote", "fraud@abc"], "no model fraud@abc"),
        (["rollback", "--offline"], "no earlier champion"),
        (["score", "--data", "x.csv", "--output", "o.csv"], "no champion"),
    ],
)  # fmt: skip
def test_mistakes_get_one_clear_line(state: Path, arguments: list[str], told: str) -> None:
    write_rows(Path("x.jsonl"), labelled_rows(5))
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("fraudstream: ")
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_seed_below_0_is_refused_before_anything_is_read(state: Path) -> None:
    result = run("train", "--data", "nowhere.csv", "--seed", "-1")
    assert result.exit_code == 2
    assert "--seed" in result.stderr
    assert "nowhere" not in result.stderr


@pytest.mark.usefixtures("without_plots")
def test_labels_of_json_lines_may_be_missing_at_first(state: Path) -> None:
    """Without a mapping too: our names are looked for in every row, not in the first thousand."""
    rows = labelled_rows(5000)
    for row in rows[:1200]:
        del row["label"], row["label_time"]
    data = write_rows(state / "late.jsonl", rows)
    result = run("train", "--data", data, "--search", "0", "--json")
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["training"]["unlabelled"] == 1200


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_without_a_broker_nothing_is_switched(
    state: Path, two_models: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The registry and the running services must not come to disagree in silence."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("fraud.kafka.sync_producer._CALL_S", 0.2)
    versions = [told["version"] for told in two_models]
    run("promote", f"fraud@{versions[1]}", "--force", "--offline")
    champion = Registry(state / "models").champion_ref()
    result = run(command, *([f"fraud@{versions[0]}"] if command == "promote" else []))
    assert result.exit_code == 2
    assert "Kafka at 127.0.0.1:1 could not be reached" in result.stderr
    assert Registry(state / "models").champion_ref() == champion


@pytest.mark.usefixtures("one_model")
def test_a_damaged_champion_stops_if_missing(state: Path) -> None:
    """It may be somebody's own model: it is not replaced in silence."""
    (state / "history").mkdir()
    write_rows(state / "history" / "history.jsonl", labelled_rows())
    ref = Registry(state / "models").champion_ref()
    path = state / "models" / ref.name / ref.version / MANIFEST_FILE
    path.write_bytes(path.read_bytes().replace(b'"seed": 7', b'"seed": 8'))
    result = run("train", "--if-missing")
    assert result.exit_code == 2
    assert "its files were changed" in result.stderr


@pytest.mark.usefixtures("without_plots")
def test_five_facts_are_enough(state: Path) -> None:
    """Time, id, entity, amount and label under a stranger's names; the currency is a constant."""
    names = {
        "event_id": "no",
        "entity_id": "card",
        "event_time": "at",
        "transaction_amt": "eur",
        "label": "chargeback",
    }
    with (state / "few.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names.values())
        writer.writeheader()
        writer.writerows(
            {theirs: row[ours] for ours, theirs in names.items()} for row in labelled_rows()
        )
    fields = "".join(f'{ours} = "{theirs}"\n' for ours, theirs in names.items())
    mapping = f'[fields]\n{fields}[constants]\ntransaction_currency = "EUR"\n'
    (state / "few.toml").write_text(mapping)
    result = run(
        "train", "-d", state / "few.csv", "-m", state / "few.toml", "--search", "0", "--json"
    )
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["training"]["rows"] == 3000
    assert told["metrics"]["auc"] > 0.65
