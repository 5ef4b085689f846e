"""What was done, by whom and why: one log in one order that cannot be changed unseen.

See `service.record`, `sequencer`.
"""
