"""Checks that texts follow STYLE.md: docstrings, comments, messages, documents, test names and commit subjects."""
