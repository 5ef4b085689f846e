"""From findings to deeds: decide with reasons, reserve the right, act through the ports, verify, or call a person."""
