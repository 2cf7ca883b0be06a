"""`python -m kubectl_userstorage`."""

from kubectl_userstorage.cli import main

if __name__ == "__main__":
    main()
