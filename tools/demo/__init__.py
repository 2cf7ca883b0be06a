"""The whole product seen once, from nothing: a cluster, the operator, a user whose file survives the end of the pod."""
