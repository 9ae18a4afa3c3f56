"""Sends alerts by e-mail, signed webhooks and Slack, each event once to each recipient.

Guarantees and limits:

- No recipient gets the same (entity_id, event_id) in two messages: the ledger (`ledger.py`) has one
  row per alert and one delivery per recipient, and a replayed alert is not recorded again.
- Each delivery ends in exactly one message, alone or with others (`planning.py`), or in a dead letter.
- Nothing is lost while a server is down: an alert is durable in the ledger before its Kafka offset
  is committed, and stays there until the server accepts its message or refuses it for good.
- A message that cannot be written, or that makes the server drop the connection, delays the others
  only briefly.
- Known limit: if the notifier is killed or disconnected after the server accepted a message but
  before the ledger recorded that, the message is sent again, with the same Message-ID
  (`webhook-id`) so that the recipient can drop the copy.
- One notifier per ledger: a second one on the same ledger exits with an error. Two notifiers with
  separate ledgers may both send an alert when partitions move between them.
"""
