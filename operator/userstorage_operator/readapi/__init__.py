"""The read API for platform backends: authorization, parameters and responses over HTTP."""
