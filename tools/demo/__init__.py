"""The demo: starts a cluster and the operator, and shows that a user's file is still there after the pod was deleted."""
