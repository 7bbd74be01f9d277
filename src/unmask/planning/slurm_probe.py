"""Check that SLURM is usable from this machine, made before the first job is submitted. Torch-free."""

from __future__ import annotations

import re
import shutil
import subprocess

SECONDS = 30  # timeout of a command


def slurm_lacks(status_command: str | None, first_check: int) -> str | None:
    """Return why jobs cannot be submitted or tracked from here, and how to fix it; None if they can.

    `status_command` (sacct or squeue) queries job states, first `first_check` seconds after submission.
    """
    if not shutil.which("sbatch"):
        return (
            "sbatch is not on this machine: start snakemake on a login node of the cluster. Without SLURM, use another "
            "profile (docs/cluster.md has one for a machine with several GPUs)"
        )
    if status_command == "squeue":
        return _squeue_forgets(first_check)

    # Without accounting sacct knows no jobs, and the executor would wait for their end forever.
    said = _ask("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID")
    if said is None:
        return None
    return (
        f"sacct does not answer ({said}), so no job would ever be seen to finish. Enable accounting (slurmdbd), or add "
        "--slurm-status-command squeue"
    )


def _squeue_forgets(first_check: int) -> str | None:
    """Return a message if squeue forgets finished jobs too soon: it lists them for MinJobAge seconds only."""
    config = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", config.stdout, re.MULTILINE)
    if config.returncode or found is None:
        return f"scontrol does not answer ({_last(config.stderr)}); start snakemake on a login node of the cluster"

    # Below three checks the executor queries sacct even so, which needs accounting.
    seconds = int(found[1])
    if seconds >= 3 * first_check:
        return None
    return (
        f"squeue forgets jobs {seconds} s after their end (MinJobAge), too soon for a check every {first_check} s: "
        f"set slurm-init-seconds-before-status-checks to {seconds // 3} or less"
    )


def _ask(*command: str) -> str | None:
    """Run a command; return the last line of its error output, or None if it succeeds."""
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _last(str(error))
    return _last(asked.stderr) if asked.returncode else None


def _last(text: str) -> str:
    """Return the last non-empty line of an error message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no error message"
