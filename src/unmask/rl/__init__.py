"""Rollout buffer, generation, likelihood surrogates, losses, clipped ratios."""
