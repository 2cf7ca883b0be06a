"""Requests to the API server: login, raw JSON requests, watches. The only package that imports the kubernetes client."""
