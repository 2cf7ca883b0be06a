"""The gate: decides for a gateway whether a request may reach the file browser at its host. It carries no traffic itself."""
