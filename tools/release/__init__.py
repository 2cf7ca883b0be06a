"""Makes the artifacts of a release: manifests, chart, images list, notes, checksums."""
