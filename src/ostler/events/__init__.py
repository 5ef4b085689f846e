"""What Ostler tells the world: the event ledger, and webhooks that lose nothing.

See `service.publish`, `sender.Sender`.
"""
