"""Kubernetes operator that gives every user a file browser on a volume of their own."""
