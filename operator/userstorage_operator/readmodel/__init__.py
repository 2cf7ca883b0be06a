"""What the read API returns to platform backends, for which query, to which caller. Pure functions."""
