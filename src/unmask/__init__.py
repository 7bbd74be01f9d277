"""Reinforcement learning for masked diffusion language models; see README.md."""

import gc
import sys
from pathlib import Path

# Importing torch and transformers makes a million objects that live as long as the process. Looking for garbage among
# them takes a fifth of the time, so a step (src/*.py) starts the collector after its imports: `run_step`.
if Path(*sys.argv[:1]).resolve().parent == Path(__file__).resolve().parents[1]:
    gc.disable()
