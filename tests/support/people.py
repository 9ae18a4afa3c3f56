"""A customer as there are many, and a thief."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

Record = dict[str, Any]

THIEF: Record = {
    "ip_address": "185.220.101.4",
    "user_agent": "python-requests/2.31",
    "email_address": "x83920411@mailinator.com",
    "phone": "+7-900-555-0199",
    "billing_latitude": 55.75,
    "billing_longitude": 37.6,
    "device_id": "d-ffff",
}
"""What changes when the card is in other hands."""


def a_customer() -> Record:
    return {
        "entity_id": f"cust-{uuid.uuid4()}",
        "transaction_currency": "USD",
        "email_address": "grace.hopper@example.com",
        "ip_address": "198.51.100.20",
        "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_4) Safari/605.1.15",
        "phone": "+1-202-555-0101",
        "customer_name": "Grace Hopper",
        "card_bin": "453211",
        "billing_street": "12 Harbor Road",
        "billing_city": "Arlington",
        "billing_state": "VA",
        "billing_zip": "22201",
        "billing_country": "US",
        "billing_latitude": 38.88,
        "billing_longitude": -77.1,
        "merchant_id": "m-000007",
        "channel": "web",
    }


def a_payment(customer: Record, when: datetime, amount: float, **changes: Any) -> Record:
    return {
        **customer,
        "event_id": str(uuid.uuid4()),
        "event_time": when.isoformat(),
        "transaction_amt": amount,
        "product_category": "grocery_pos",
        **changes,
    }
