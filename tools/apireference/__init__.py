"""Writes docs/api-reference.md from the CRDs and the operator's table of reasons: the text is kept in one place."""
