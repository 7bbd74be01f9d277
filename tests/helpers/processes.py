"""Starting scripts and training jobs in several processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

from helpers.paths import ROOT

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def start(count, *command, **environment):
    """Begin a script in so many processes."""
    begin = [*TORCHRUN, str(count)] if count > 1 else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.Popen(
        [*begin, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def begin_job(spec, count, out):
    """Begin train_policy.py in so many processes."""
    here = spec.parent
    return start(
        count, ROOT / "src" / "train_policy.py", spec, "--weights", here / "weights", "--data", here / "train.parquet",
        "--validation", here / "validation.parquet", "--checkpoint-minutes", "0",
        "--adapter", out / "adapter", "--metrics", out / "metrics.csv", "--manifest", out / "manifest.json",
    )  # fmt: skip


def workers(process):
    """The processes that torchrun started, by rank."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        values = dict(v.split("=", 1) for v in Path(f"/proc/{child}/environ").read_text().split("\0") if "=" in v)
        found[int(values["RANK"])] = int(child)
    return found


def wait_for_checkpoint(out, process):
    while not list(out.glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
