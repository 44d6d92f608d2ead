"""Measurements, each one command, such as ``learning``, ``throughput``, ``replay`` and ``behavior``."""
