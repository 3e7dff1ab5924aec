"""The judge of the built-in kinds: many files through the real chain, each answer held against an independent program."""
