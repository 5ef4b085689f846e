"""Where the agent's log lines come from. Each module is one kind of `Source` (port.py), chosen by `ostler agent`."""
