"""Data that the leader keeps in Redis for the other replicas and for its successor. No reconcile decision reads it."""
