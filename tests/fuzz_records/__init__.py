"""`make fuzz-records`: odd records in every topic, beside jobs that must all be right."""
