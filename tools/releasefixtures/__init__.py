"""Records the objects that this version of the operator leaves in a cluster. The upgrade tests of later versions use them."""
