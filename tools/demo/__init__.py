"""The demo: a cluster, the operator, and a user whose file survives the deletion of the pod."""
