"""One pass over one UserStorage: observe, decide, act, report."""
