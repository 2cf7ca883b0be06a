"""Records the objects that a version of the operator leaves in a cluster, for the upgrade tests of later versions."""
