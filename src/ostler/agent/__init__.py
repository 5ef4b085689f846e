"""The node agent: follows the kernel log, reports what it finds, and does what it is allowed to do.

`Agent` (agent.py) is a machine that is stepped: `poll()` does what is due and says when to come back, so one process
can run one of them (`ostler agent`, run.py) or a thousand (the twin) without a thread each. Its parts are handed in:

sources/       where lines come from: /dev/kmsg, the journal, a file, a script
throttle.py    folds a flood of equal faults into one signal
buffer.py      store and forward in memory; spool.py keeps the same on disk over restarts and reboots
transport.py   one report over mutual TLS; join.py turns a seed into an identity
orders.py      what the server asks for, against the agent's own allow-list; verbs.py does it on a real node
inventory.py   what the node is made of

Imports core, faults, wire, checks and the standard library only (`cryptography` while joining): it stays light on a
node that others pay for.
"""
