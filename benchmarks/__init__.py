"""Measurements: what is learned (``learning``). Each is one command, and leaves its figures in ``results/``."""
