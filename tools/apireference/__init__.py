"""Generates docs/api-reference.md from the CRDs and from the operator's table of condition reasons."""
