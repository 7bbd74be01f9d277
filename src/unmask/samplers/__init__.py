"""Block decoding and its commit rules."""
