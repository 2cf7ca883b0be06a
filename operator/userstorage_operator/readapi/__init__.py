"""Answers for platform backends, over HTTP: who may ask, what they ask, and how the answer is told."""
