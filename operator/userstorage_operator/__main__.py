"""`python -m userstorage_operator`."""

from userstorage_operator.cli import main

main()
