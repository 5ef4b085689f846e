"""The database: one schema for both engines, one way to write, one lease. Imported by every feature's store."""
