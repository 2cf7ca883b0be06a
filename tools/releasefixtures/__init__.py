"""Records the objects that this version of the operator creates in a cluster, for the upgrade tests of later versions."""
