"""The input of one reconcile: the snapshot of a UserStorage, and what its pod, claim and volume report. Pure."""
