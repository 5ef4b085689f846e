"""Chores of this repository, run by the Makefile; nothing here is installed."""
