"""Evaluation of policies, resumable shards, surrogate gaps, rewards of generation files."""
