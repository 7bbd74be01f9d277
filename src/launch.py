"""Launch a step as one process, or with torchrun as one process per GPU; on several nodes srun starts torchrun on each.

python src/launch.py --gpus 8 -- src/train_policy.py results/llada-8b/runs/…/spec.yaml --weights …

The world size of a training run is the largest that divides its prompts evenly, as its spec says. The launched process
replaces this one (exec), so signals reach it.
"""

import argparse
import os
import sys
from pathlib import Path

from unmask.common.errors import run_step
from unmask.common.gpu_locks import take_cards
from unmask.common.world_size import request_processes
from unmask.config.specs import RunSpec

# torchrun forwards SIGTERM and SIGUSR1 to every rank and gives them time to write a checkpoint.
SIGNALS = ["--signals-to-handle", "SIGINT,SIGTERM,SIGUSR1", "--shutdown-timeout=280"]


def main() -> None:
    """Reserve GPUs, then exec the command that runs the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1, help="over all nodes")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("step", nargs=argparse.REMAINDER, help="-- script and its arguments, the spec first")
    args = parser.parse_args()

    # argparse.REMAINDER keeps the `--` that separates the launcher's options from the step's.
    if args.step[:1] == ["--"]:
        args.step = args.step[1:]
    script, *words = args.step

    # GPUs are locked per machine; a job on several nodes is a SLURM job and gets its GPUs from SLURM.
    take_cards(args.gpus if args.nodes == 1 else 0)
    count = processes(script, words, args.gpus)
    command = launcher(count, args.nodes)
    request_processes(count)
    os.execvp(command[0], [*command, script, *words])  # noqa: S606 (no shell is meant)


def processes(script: str, words: list[str], gpus: int) -> int:
    """Return the world size of a step on `gpus` GPUs."""
    # A training step needs equal shares of its prompts; the shards of an evaluation can be split among any number.
    if Path(script).stem == "train_policy":
        return RunSpec.read(Path(words[0])).shared_by(gpus)
    return max(1, gpus)


def launcher(count: int, nodes: int = 1) -> list[str]:
    """Return the command that precedes the script, for `count` processes on `nodes` nodes.

    On several nodes torchrun reads its rendezvous endpoint from the environment variable PET_RDZV_ENDPOINT.
    """
    if count == 1:
        return [sys.executable]

    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    each = [f"--nproc-per-node={count // nodes}", *SIGNALS]
    if nodes == 1:
        return [*torchrun, "--standalone", *each]

    # One task per node, whose torchrun starts all ranks of the node; unbound, so that they can use all of its cores.
    start = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--cpu-bind=none"]
    return [*start, *torchrun, f"--nnodes={nodes}", "--rdzv-backend=c10d", *each]


if __name__ == "__main__":
    run_step(main)
