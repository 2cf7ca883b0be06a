"""The only importer of the kubernetes client: login, raw JSON requests, watches."""
