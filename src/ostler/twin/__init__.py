"""A simulated fleet that speaks the real protocols to a real server: the demo's, the tests' and the benchmarks' nodes.

spec.py        what the machines are made of, from one seed
netboot.py     from power-on to a seed, over real HTTP; ipxe.py reads the boot scripts
node.py        one machine: power, boot, join over real TLS, the real agent (verbs.py: what it can be ordered to do)
bmc*.py        its BMC: a Redfish service
script.py      fault scripts; strikes.py carries them out
fleet.py       many machines in one process; thin.py: very many, without an agent each
enrolment.py   enters the machines into the server's books as an operator would

It imports core, faults, wire, checks and agent, and never a feature of the server: what it knows, it learnt on the
wire.
"""
