"""Generates the templates of the Helm chart from the kustomizations of `deploy/`, and runs Helm."""
