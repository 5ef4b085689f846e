"""Nodes: the lifecycle, where nodes are, what is true of them, and their history. Everything above builds on this."""
