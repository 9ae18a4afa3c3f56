"""Personal values are found again by their hashes, and cannot be read or compared without the key."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud.contracts.personal import is_personal
from fraud.contracts.transaction import PERSONAL_FIELDS
from fraud.security.pseudonyms import (
    KEY_FILE,
    PersonalDataSettings,
    Pseudonyms,
    is_pseudonym,
    kept_key,
)

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("email_address", "Ada@Example.COM", " ada@example.com "),
        ("phone", "+1-202-555-0143", "1 (202) 555 0143"),
        ("customer_name", "Ada  Example", "ADA EXAMPLE"),
        ("customer_name", "Zoe\u0308", "zo\u00eb"),
        ("billing_street", "1 Example Street", "1 example  street"),
    ],
)
def test_the_usual_ways_of_writing_a_value_have_one_hash(field: str, one: str, other: str) -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.hash(field, one) == pseudonyms.hash(field, other)


def test_fields_keys_and_values_differ() -> None:
    """Nobody can tell by the index that somebody's name is another one's street."""
    hashes = {
        Pseudonyms(KEY).hash("customer_name", "ada"),
        Pseudonyms(KEY).hash("billing_street", "ada"),
        Pseudonyms(KEY).hash("customer_name", "bob"),
        Pseudonyms(KEY[::-1]).hash("customer_name", "ada"),
    }
    assert len(hashes) == 4
    assert Pseudonyms(KEY).key_id != Pseudonyms(KEY[::-1]).key_id


@given(st.sampled_from(sorted(PERSONAL_FIELDS)), st.text())
def test_any_text_has_a_hash(field: str, value: str) -> None:
    """Whatever payers write: empty, control characters, halves of characters."""
    assert is_pseudonym(Pseudonyms(KEY).hash(field, value))


@pytest.mark.parametrize(
    ("entity_id", "personal"),
    [
        ("070-69-2161", True),
        ("070 69 2161", True),
        ("070692161", True),
        ("ssn:070-69-2161", True),
        ("ada@example.com", True),
        ("+1 202 555 0143", True),
        ("4111 1111 1111 1111", True),
        ("4111111111111112", False),
        ("cust-0042", False),
        ("12345678", False),
        ("0b6ee1f2-3c0e-4a55-9a4e-6a1f0f5e7b11", False),
        ("070-69-21610", False),
    ],
)
def test_an_id_that_is_itself_personal_is_hashed(entity_id: str, personal: bool) -> None:
    assert is_personal("entity_id", entity_id) is personal
    assert is_pseudonym(Pseudonyms(KEY).indexed("entity_id", entity_id)) is personal
    assert Pseudonyms(KEY, clear=True).indexed("entity_id", entity_id) == entity_id


def test_a_search_finds_what_is_indexed() -> None:
    """In clear as well, where older documents hold hashes."""
    hashed, clear = Pseudonyms(KEY), Pseudonyms(KEY, clear=True)
    for field, value in [("phone", "+1-202-555-0143"), ("entity_id", "c-1"), ("user_agent", "x")]:
        assert hashed.searched(field, value) == [hashed.indexed(field, value)]
        assert clear.indexed(field, value) in clear.searched(field, value)
        assert hashed.indexed(field, value) in clear.searched(field, value)


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    """Two keys would make two hashes of each value."""
    path = tmp_path / "state" / KEY_FILE
    code = "import sys, pathlib; from fraud.security.pseudonyms import kept_key; print(kept_key(pathlib.Path(sys.argv[1])).decode())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert keys == {kept_key(path)}
    assert len(kept_key(path)) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_broken_key_file_is_said_and_not_replaced(tmp_path: Path) -> None:
    """A new key would orphan all that is indexed."""
    path = tmp_path / KEY_FILE
    path.write_bytes(b"half a key")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        kept_key(path)
    assert path.read_bytes() == b"half a key"


def test_the_setting_comes_before_the_file(tmp_path: Path) -> None:
    given = PersonalDataSettings(state_dir=tmp_path, personal_data_key="x" * 32)
    assert Pseudonyms.of(given).hash("phone", "1234") == Pseudonyms(b"x" * 32).hash("phone", "1234")
    assert not (tmp_path / KEY_FILE).exists()
    kept = PersonalDataSettings(state_dir=tmp_path, index_personal_fields="clear")
    assert Pseudonyms.of(kept).clear
    assert (tmp_path / KEY_FILE).exists()


def test_a_short_key_is_refused_without_showing_it() -> None:
    with pytest.raises(ValidationError, match="at least 32 characters"):
        PersonalDataSettings(personal_data_key="too short")
