"""Measurements, each one command: ``learning``, ``throughput``, ``replay``, ``breakdown`` and ``overlap``."""
