"""Requests to the API server: login, requests without model classes, watches. The only package that imports the kubernetes
client.
"""
