"""Reinforcement learning for masked diffusion language models; see README.md."""
