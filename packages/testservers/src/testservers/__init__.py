"""Runs real Redis and Prometheus servers on the loopback address, for tests and the demo."""
