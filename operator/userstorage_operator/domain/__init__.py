"""Pure decisions: what a UserStorage wants, what is there, what to do, what to say. Standard library only."""
