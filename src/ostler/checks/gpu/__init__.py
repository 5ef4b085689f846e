"""The checks that compute on GPUs. They need the `gpu` extra (PyTorch), which is imported only when one of them runs.

`bench.py` is what they all stand on: which GPUs there are, how work is put on them and timed, and what an error of the
driver means. Everything that a test must be able to break (a result, a speed, a temperature) goes through a method of
`Bench`, so a sound machine can play a broken one.
"""
