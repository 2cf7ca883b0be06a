"""Generates docs/api-reference.md from the CRDs, the examples and the condition reasons in `api/reasons.py`."""
