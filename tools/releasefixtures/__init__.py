"""Objects as a version of the operator leaves them, kept for the tests of upgrades to every later one."""
