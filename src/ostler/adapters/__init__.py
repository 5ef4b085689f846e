"""The outside world: each folder is one port, its real implementation and its fake. Called by jobs and controllers.

Adapters import `core` only and know nothing of features: they do what they are told and say plainly what went wrong.
"""
