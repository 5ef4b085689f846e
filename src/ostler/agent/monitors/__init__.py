"""Passive monitors: what the agent looks at again and again while the node works. Run in a process of their own."""
