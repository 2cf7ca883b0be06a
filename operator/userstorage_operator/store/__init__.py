"""What the leader keeps in Redis for the other replicas and for its successor. Nothing here is ever decided from."""
