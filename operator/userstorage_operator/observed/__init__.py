"""The input of a reconcile: the snapshot of a UserStorage and the state of its pod, claim and volume. Pure functions."""
