"""Masked diffusion language models and the trainable policy."""
