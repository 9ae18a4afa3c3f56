"""Decisions to people: e-mails, signed webhooks and Slack, each event once to each recipient.

What holds, and how:

- Never two messages for one (entity_id, event_id) to one recipient: the ledger (`ledger.py`) has one
  row per alert and one delivery per recipient, and an alert that is in it is not recorded again,
  whatever is replayed.
- Each delivery ends in exactly one message, alone or with others (`planning.py`), or in a dead letter.
- Nothing is lost while a server is down: an alert is durable in the ledger before its Kafka offset
  is committed, and stays there until the server took its message or refused it for good.
- One message that a server breaks off at, or that cannot be written, holds up no other for long.
- Known limit: killed, or cut off from the server, between its acceptance of a message and our record
  of that, the message is sent once more, with the same Message-ID (`webhook-id`), so that those who
  look at it show one.
- One notifier per ledger: a second one on the same ledger ends with a clear line. Two notifiers
  with a ledger each may both send when partitions move between them.
"""
