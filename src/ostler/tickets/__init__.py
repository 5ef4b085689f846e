"""Technicians' work: one physical cause, one place, one instruction, closed only by evidence."""
