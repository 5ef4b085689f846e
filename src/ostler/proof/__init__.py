"""Proof: the real policies on recorded time. `recording.py` reads, `stage.py` and `voices.py` act, `replay.py` runs."""
