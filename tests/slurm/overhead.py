"""What a job costs that does nothing: wall time of one and of many trivial jobs through the slurm profile.

    python tests/slurm/overhead.py 50       starts a SLURM of its own (cluster.py) and prints a Markdown table

Each line is one run of snakemake from its start to its end, with the profile as users have it but for the account and
what the line names. All jobs of a line are independent of each other.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cluster

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow/profiles/slurm/profile.yaml"
SNAKEFILE = """\
onstart:
    workflow.scheduler.job_rate_limiter = None
rule all:
    input: expand("made/{number}", number=range(int(config["jobs"])))
rule trivial:
    output: "made/{number}"
    shell: "touch {output}"
"""
RESOURCES = ["slurm_account=lab", "slurm_partition=gpu", "mem_mb=2000", "runtime=10"]
BUNDLE = ["--groups", "trivial=bundle", "--group-components", "bundle=10"]


def measure(folder: Path, env: dict[str, str], jobs: int, *words: str) -> float:
    """Seconds that snakemake takes for so many jobs."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "profile").mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    text = PROFILE.read_text(encoding="utf-8") + f"default-resources: {RESOURCES}\n"
    (folder / "profile/profile.yaml").write_text(text, encoding="utf-8")
    (folder / "profile/scale.yaml").write_text("{}", encoding="utf-8")
    command = ["snakemake", "--profile", folder / "profile", "--directory", folder, "-s", folder / "Snakefile"]
    command += ["--config", f"jobs={jobs}", *words]
    began = time.monotonic()
    done = subprocess.run(command, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"snakemake failed:\n{done.stdout[-3000:]}")
    return time.monotonic() - began


def main() -> None:
    """Print the table."""
    many = int(sys.argv[1])
    if why := cluster.missing():
        sys.exit(why)
    soon = ["--slurm-init-seconds-before-status-checks", "5"]
    lines = {
        ("one job", "as in the profile"): (1, []),
        ("one job", "first question after 5 s"): (1, soon),
        (f"{many} jobs", "as in the profile"): (many, []),
        (f"{many} jobs", "ten in one job"): (many, BUNDLE),
    }
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    print("| work | settings | seconds |\n|---|---|---|")
    try:
        env = cluster.up(home / "slurm")
        for (work, settings), (jobs, words) in lines.items():
            print(f"| {work} | {settings} | {measure(home / 'work', env, jobs, *words):.0f} |", flush=True)
    finally:
        cluster.down(home / "slurm")
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
