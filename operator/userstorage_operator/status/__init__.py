"""What to report: conditions, phase, events and the status of a class, from the outcome of a reconcile. Pure."""
