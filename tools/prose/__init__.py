"""Check the words of the project: docstrings, comments, messages, documents, test names and commit subjects (STYLE.md)."""
