"""What ails links that are where they belong: two snapshots in, troubles out. Pure; called by the fabric's service and
by `ostler fabric check`.

`model.py` are the words, `limits.py` the numbers with their sources, `deltas.py` what counters say between two looks,
`poisson.py` what a count proves, `flaps.py` downs and restarts, `errors.py`, `optics.py` and `rates.py` the rules,
`judge.py` asks them all and folds what has one physical cause.
"""
