"""Renders `deploy/` as `kubectl apply -k` does, and validates it against the schemas of Kubernetes."""
