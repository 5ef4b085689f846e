"""Calling a person, and hearing what other alarms say: pages out, alerts in, and the dead-man's switch."""
