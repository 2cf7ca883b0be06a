"""Leader election: which replica leads, how it renews the Lease, and the fence that is asked before every write."""
