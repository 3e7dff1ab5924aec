"""What `make bench-kinds` is made of: the files, the programs beside which it measures, and the CPU of children."""
