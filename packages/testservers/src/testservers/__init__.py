"""Runs real servers on the loopback address, for tests and the demo: Redis, Prometheus, gateways and a login."""
