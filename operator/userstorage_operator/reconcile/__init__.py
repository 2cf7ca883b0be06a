"""The reconcile of one UserStorage: observe, plan, apply, report; and the reconcile of a class."""
