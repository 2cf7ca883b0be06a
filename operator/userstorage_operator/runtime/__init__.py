"""Machinery that knows nothing of UserStorage: queue, workers, HTTP server, metrics, logs."""
