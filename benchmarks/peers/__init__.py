"""The parts of `isolation_peers.py`. They import nothing of Regather: their Python has the peers installed instead."""
