"""Caches of Kubernetes objects, and what fills them: kopf for our own two kinds, list-watches for the others, the sweep."""
