"""Decisions to e-mails: one for each blocked transaction that is not a duplicate.

What holds, and how:

- Never two mails for one (entity_id, event_id): the ledger (`ledger.py`) has one row per alert, and
  an alert that is in it is not recorded again, whatever is replayed.
- Nothing is lost while the mail server is down: an alert is durable in the ledger before its Kafka
  offset is committed, and stays pending until the server took it or refused it for good.
- Known limit: killed, or cut off from the server, between its acceptance of a mail and our record
  of that, the mail is sent once more, with the same Message-ID, so that mail programs and servers
  that look at it show one.
- One notifier per ledger: a second one on the same ledger ends with a clear line. Two notifiers
  with a ledger each may both send when partitions move between them.
"""
