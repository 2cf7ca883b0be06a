"""Which UserStorage gets what only one, or only so many, can have: a user id, a claim, a host, a place in the quota. Pure, over caches."""
