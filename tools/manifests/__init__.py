"""What `deploy/` comes to, rendered as `kubectl apply -k` would, and what Kubernetes' own schemas say of it."""
