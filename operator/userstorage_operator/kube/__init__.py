"""Requests to the API server: login, requests without model classes, watches. No other package imports the kubernetes client."""
