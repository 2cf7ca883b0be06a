"""Caches of the API server, and what feeds them: kopf for our own kinds, list-watches for the children, the sweep."""
