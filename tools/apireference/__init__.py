"""Writes docs/api-reference.md from the CRDs and the operator's table of reasons."""
