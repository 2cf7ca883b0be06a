"""The API: typed UserStorage and UserStorageClass, conditions, reasons, errors, names. Imports only the standard library."""
