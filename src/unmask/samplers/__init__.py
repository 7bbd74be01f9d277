"""Semi-autoregressive block decoding and its commit rules."""
