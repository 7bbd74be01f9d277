"""Shared infrastructure: atomic files, errors, checksums, locks, manifests, seeds, progress, processes."""
