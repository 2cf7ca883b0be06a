"""Conditions, phase, events, and the status of a class, computed from the outcome of a reconcile. Pure functions."""
