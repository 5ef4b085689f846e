"""Day 0: a machine is powered on, asks what to boot, is recognised, fetches its seed, and joins by itself."""
