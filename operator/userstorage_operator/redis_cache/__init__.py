"""Summaries that the leader keeps in Redis for the other replicas, and backoffs for the next leader. No decision of a reconcile
reads them.
"""
