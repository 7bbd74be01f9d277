"""Estimates of FLOPs, memory, hours and disk; run status; checks before a workflow starts. Torch-free."""
