"""Redis and Prometheus servers for tests, on loopback."""
