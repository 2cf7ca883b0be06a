"""Which replica leads: the Lease, its renewal, and the fence that every write passes."""
