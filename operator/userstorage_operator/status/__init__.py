"""The status of a UserStorage and of a class, and Events about changes of it, computed from reconciles. Pure functions."""
