"""What to do: the children that the spec asks for, the difference to the live ones, and the steps between. Pure."""
