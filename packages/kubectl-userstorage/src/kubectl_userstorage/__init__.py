"""kubectl-userstorage: the kubectl plugin for UserStorages. It knows the API of the operator, and none of its code."""
