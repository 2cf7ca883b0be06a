"""Runs real Redis, Prometheus and nginx servers on the loopback address, for tests and the demo."""
