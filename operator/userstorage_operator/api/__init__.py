"""The vocabulary of the API: our two kinds parsed from raw objects, conditions, reasons, errors, names. Standard library only."""
