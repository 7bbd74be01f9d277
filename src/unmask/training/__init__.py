"""Trainer, optimizer, checkpoints, validation, pretraining, and the tabular training loop."""
