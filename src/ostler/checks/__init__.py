"""The active tests that run on a node. They measure; policy judges what follows.

`python -m ostler.checks NAME --json` runs one by itself; the agent runs the same in a subprocess of its own. A check is
one module in this package with a function `run(arguments, budget_s) -> CheckResult`, listed in registry.py and loaded
one by one. Standard library only, but for those in gpu/, which import PyTorch when they run.
"""
