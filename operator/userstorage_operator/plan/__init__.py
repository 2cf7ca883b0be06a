"""The plan of a reconcile: the desired children, how the live children differ from them, and the steps. Pure functions."""
