"""Simulates a whole installation in one thread and virtual time; one seed determines every random decision."""
