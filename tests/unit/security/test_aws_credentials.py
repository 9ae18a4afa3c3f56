"""The file of access keys that we issue."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import botocore.session
import pytest

from fraud.runtime.files import FileDamaged
from fraud.security.api_keys import Role
from fraud.security.aws_credentials import (
    FILE_NAME,
    AwsCredentials,
    NoSuchProfile,
    ProfileTaken,
)


def _start(folder: str) -> bool:
    return AwsCredentials(Path(folder)).ensure_first()


def test_of_many_processes_that_start_one_makes_the_first(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        made = pool.map(_start, [str(tmp_path)] * 16)
    assert sum(made) == 1
    (first,) = AwsCredentials(tmp_path).all()
    assert (first.profile, first.role) == ("default", Role.ADMIN)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert first.secret not in repr(first)


def test_a_client_of_aws_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = AwsCredentials(tmp_path)
    credentials.ensure_first()
    ours = credentials.create("checkout", Role.SCORE)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials.path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    theirs = botocore.session.Session(profile="checkout").get_credentials()
    assert (theirs.access_key, theirs.secret_key) == (ours.access_key_id, ours.secret)


def test_keys_made_and_revoked_count_at_once(tmp_path: Path) -> None:
    """In every process that has the file."""
    here, there = AwsCredentials(tmp_path), AwsCredentials(tmp_path)
    made = here.create("checkout", Role.SCORE)
    assert there.find(made.access_key_id) == made
    with pytest.raises(ProfileTaken):
        there.create("checkout", Role.ADMIN)
    there.revoke("checkout")
    assert here.find(made.access_key_id) is None
    with pytest.raises(NoSuchProfile):
        here.revoke("checkout")
    with pytest.raises(ValueError, match="profile"):
        here.create("[no]", Role.SCORE)


@pytest.mark.parametrize(
    "text",
    [
        "no section = 1",
        "[a]\naws_access_key_id = short\naws_secret_access_key = ssssssssssssssssssssss",
        "[a]\naws_access_key_id = ABCDEFGHIJKLMNOPQRST\naws_secret_access_key = weak",
        "[a]\naws_access_key_id = ABCDEFGHIJKLMNOPQRST\naws_secret_access_key = ssssssssssssssssssssss\nrole = king",
    ],
)
def test_a_damaged_file_is_named_and_the_last_good_one_stays(tmp_path: Path, text: str) -> None:
    credentials = AwsCredentials(tmp_path)
    made = credentials.create("checkout", Role.SCORE)
    assert credentials.find(made.access_key_id) == made
    credentials.path.write_text(text)
    assert credentials.find(made.access_key_id) == made
    with pytest.raises(FileDamaged, match=FILE_NAME) as problem:
        AwsCredentials(tmp_path)
    assert "ssss" not in str(problem.value)
    assert "weak" not in str(problem.value)
