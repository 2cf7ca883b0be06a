@echo off
rem As kubectl-userstorage, for Windows.
uvx --quiet --from "kubectl-userstorage==0.1.0" kubectl-userstorage %*
