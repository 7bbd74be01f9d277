"""The grid of runs: config -> specs, paths and experiments."""
