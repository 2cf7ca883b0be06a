"""What platform backends read of a UserStorage, and how they ask for it. Pure."""
