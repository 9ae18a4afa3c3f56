"""The file of API keys: hashed, shared between processes, read again when it changed."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fraud.runtime.files import FileDamaged
from fraud.security import api_keys
from fraud.security.api_keys import (
    FIRST_KEY,
    KeyNameTaken,
    KeyStore,
    LastAdminKey,
    NoSuchKey,
    Role,
    TooManyKeys,
    first_key,
)


def test_a_key_is_found_by_its_secret_and_kept_by_its_hash(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, lambda: 0)
    key, secret = store.create("checkout", Role.SCORE, "ada")
    found = store.find(secret)
    assert found is not None
    assert (found.id, found.name, found.role, found.created_by) == (
        key.id,
        "checkout",
        Role.SCORE,
        "ada",
    )
    assert store.find(secret + "x") is None
    assert store.find("") is None
    assert store.find("\udcff") is None
    for file in tmp_path.iterdir():
        assert secret not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_store_sees_what_another_changes(tmp_path: Path) -> None:
    """As the API sees what the command line does, from its next look on."""
    api, line = KeyStore(tmp_path), KeyStore(tmp_path)
    key, secret = line.create("checkout", Role.ADMIN, "ada")
    assert api.find(secret) is not None
    line.create("other", Role.ADMIN, "ada")
    line.revoke(key.id)
    assert api.find(secret) is None
    assert [one.name for one in api.all_keys()] == ["other"]


def test_the_last_admin_key_stays(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    admin, _ = store.create("a", Role.ADMIN, "ada")
    other, _ = store.create("b", Role.ANALYST, "ada")
    with pytest.raises(LastAdminKey):
        store.revoke(admin.id)
    store.revoke(other.id)
    with pytest.raises(NoSuchKey):
        store.revoke(other.id)
    assert store.get(admin.id) == admin


def test_names_are_unique_and_keys_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyStore(tmp_path)
    store.create("a", Role.SCORE, "ada")
    with pytest.raises(KeyNameTaken):
        store.create("a", Role.ADMIN, "ada")
    monkeypatch.setattr(api_keys, "MAX_KEYS", 1)
    with pytest.raises(TooManyKeys):
        store.create("b", Role.SCORE, "ada")


_START = "import sys, pathlib; from fraud.security.api_keys import KeyStore; print(KeyStore(pathlib.Path(sys.argv[1])).ensure_first())"


def test_of_processes_that_start_together_one_makes_the_first_key(tmp_path: Path) -> None:
    """And all of them end up with the same."""
    folder = tmp_path / "state"
    starts = [
        subprocess.Popen([sys.executable, "-c", _START, str(folder)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [start.communicate(timeout=60)[0].strip() for start in starts]
    assert sorted(said) == [b"False"] * 3 + [b"True"]
    (key,) = KeyStore(folder).all_keys()
    secret = first_key(folder)
    assert key.role is Role.ADMIN
    assert secret is not None
    assert KeyStore(folder).find(secret) is not None
    assert stat.S_IMODE((folder / FIRST_KEY).stat().st_mode) == 0o600


def test_a_start_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    """The key was written for its owner, and not yet into the store."""
    (tmp_path / FIRST_KEY).write_text("fs_known\n")
    store = KeyStore(tmp_path)
    assert store.ensure_first()
    assert first_key(tmp_path) == "fs_known"
    assert store.find("fs_known") is not None
    assert not store.ensure_first()


def test_a_revoked_first_key_is_shown_no_longer(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.ensure_first()
    (first,) = store.all_keys()
    store.create("mine", Role.ADMIN, "ada")
    store.revoke(first.id)
    assert first_key(tmp_path) is None
    assert not store.ensure_first()


def test_a_damaged_file_stops_a_start_and_not_who_runs(tmp_path: Path) -> None:
    """Whose next change repairs it."""
    running = KeyStore(tmp_path)
    _, secret = running.create("a", Role.ADMIN, "ada")
    (tmp_path / "api-keys.json").write_text("{")
    assert running.find(secret) is not None
    assert running.find(secret) is not None
    with pytest.raises(FileDamaged, match=r"api-keys\.json"):
        KeyStore(tmp_path)
    running.create("b", Role.SCORE, "ada")
    assert KeyStore(tmp_path).find(secret) is not None
