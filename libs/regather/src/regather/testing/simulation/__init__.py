"""A whole installation in one thread and virtual time, every decision of which is drawn from one seed."""
