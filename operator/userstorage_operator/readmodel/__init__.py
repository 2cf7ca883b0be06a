"""The read model for platform backends: summaries of UserStorages, queries and callers. Pure functions."""
