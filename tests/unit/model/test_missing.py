"""Fields are left out at the stated shares, and hiding them is what their absence does."""

from __future__ import annotations

import numpy as np

from fraud.contracts.transaction import from_mapping
from fraud.features.packing import pack
from fraud.features.replay import replay
from fraud.features.vector import FEATURE_AT
from model.missing import (
    OPTIONAL,
    SHARE_ALL,
    SHARE_ONE,
    SHARE_SOME,
    hidden_columns,
    hide,
    left_out,
)
from tests.support.builders import a_record


def test_fields_are_left_out_singly_and_together_at_their_shares() -> None:
    rng = np.random.default_rng(5)
    n = 200_000
    missing = left_out(rng.random(n), rng.random(n), rng.random((len(OPTIONAL), n)))
    count = missing.sum(0)
    assert abs((count == 1).mean() - SHARE_ONE) < 0.005
    assert abs((count == len(OPTIONAL)).mean() - SHARE_ALL) < 0.005
    assert abs(((count > 1) & (count < len(OPTIONAL))).mean() - SHARE_SOME) < 0.005
    singles = missing[:, count == 1].sum(1)
    assert singles.min() > 0.8 * singles.mean()


def test_what_is_hidden_is_what_is_not_known_of_a_record_without_the_field() -> None:
    """Except for what a history counts anyway: that of other values stays known."""
    earlier = [from_mapping(a_record(event_id=f"e{n}", device_id="d-1")) for n in range(3)]
    hidden = hidden_columns()
    for name, columns in zip(OPTIONAL, hidden, strict=True):
        record = a_record(event_id="now", billing_country="US", card_bin="411111", device_id="d-2")
        whole = from_mapping(record)
        record.pop(name, None)
        (*_, with_it) = np.concatenate(list(replay(pack([*earlier, whole]))))
        (*_, without) = np.concatenate(list(replay(pack([*earlier, from_mapping(record)]))))
        lost = ~np.isnan(with_it) & np.isnan(without)
        assert not (lost & ~columns).any(), name
        assert np.isnan(without[columns]).all(), name
    assert hidden[OPTIONAL.index("email_address"), FEATURE_AT["email_domain_is_disposable"]]
    assert hidden[OPTIONAL.index("merchant_id"), FEATURE_AT["merchant_tx_count_1h"]]
    assert not hidden[:, FEATURE_AT["entity_amount_sum_1h"]].any()


def test_a_matrix_is_hidden_field_by_field() -> None:
    """The same seed hides the same; what is known of required fields stays."""
    hidden = hidden_columns()
    matrix = np.ones((20_000, hidden.shape[1]), np.float32)
    again = matrix.copy()
    hide(matrix, hidden, np.random.default_rng(3))
    hide(again, hidden, np.random.default_rng(3))
    np.testing.assert_array_equal(matrix, again)
    lost = np.isnan(matrix)
    assert not lost[:, ~hidden.any(0)].any()
    mail = lost[:, FEATURE_AT["email_domain_is_free"]].mean()
    assert abs(mail - (SHARE_ONE / len(OPTIONAL) + SHARE_SOME / 2 + SHARE_ALL)) < 0.01
