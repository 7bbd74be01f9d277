"""Masked diffusion language models, and the policy that training changes."""
