"""The reconcile of one UserStorage: observe, plan, apply, report; and that of a class."""
