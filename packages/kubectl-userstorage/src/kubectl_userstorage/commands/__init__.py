"""The commands, one module for each thing that people do."""
