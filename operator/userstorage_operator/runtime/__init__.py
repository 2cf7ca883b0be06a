"""Parts of the process that know nothing of UserStorages: work queue, workers, HTTP server, metrics, traces and logs."""
