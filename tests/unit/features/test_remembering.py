"""What is remembered of texts is bounded in bytes, whatever they are."""

from __future__ import annotations

import tracemalloc

from fraud.contracts.transaction import FIELDS, Transaction, from_mapping
from fraud.features.packing import pack
from fraud.features.remembering import LONGEST_KEPT, remembered

EXAMPLE = {field.name: field.example for field in FIELDS}


def test_a_text_is_asked_about_once_unless_it_is_long() -> None:
    asked: list[str] = []
    told = remembered(texts=10)(lambda text: asked.append(text) or len(text))
    longer = "x" * (LONGEST_KEPT + 1)
    assert [told(text) for text in ("a", "a", longer[1:], longer[1:])] == [1, 1, 512, 512]
    assert len(asked) == 2
    assert [told(longer), told(longer)] == [513, 513]
    assert len(asked) == 4


def test_long_texts_are_not_held() -> None:
    """A megabyte in every field of every transaction would fill the memory in minutes."""

    def a_transaction(number: int) -> Transaction:
        long = f"{number}" + "x" * 100_000
        fields = (
            "ip_address",
            "user_agent",
            "email_address",
            "phone",
            "product_category",
            "merchant_id",
            "device_id",
        )
        return from_mapping(EXAMPLE | dict.fromkeys(fields, long) | {"phone": f"+1{long}"})

    pack([a_transaction(0)])
    tracemalloc.start()
    try:
        for number in range(1, 21):
            pack([a_transaction(number)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000


def test_only_the_beginning_of_a_user_agent_is_read() -> None:
    """However long it is, it costs what its first 1,024 characters cost."""
    agent = "Mozilla/5.0 (X11; Linux x86_64)".ljust(1_024, "x")
    one, other, longer = (
        pack([from_mapping(EXAMPLE | {"user_agent": text})]).own
        for text in (agent, agent + " Android Mobile", agent[:-14] + "Android Mobile")
    )
    assert one == other
    assert one["user_agent_is_mobile"] != longer["user_agent_is_mobile"]
