"""Caches of the API server and their sources: kopf for our own kinds, list-watches for the children, the sweep."""
