"""Checks the words of the project (STYLE.md): docstrings, comments, messages, documents, test names and commit subjects."""
