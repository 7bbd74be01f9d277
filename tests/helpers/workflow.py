"""Run the workflow in a folder of its own, as a user does."""

import subprocess

from helpers.paths import ROOT


def snakemake(folder, *words, profile="smoke", root=ROOT):
    """Run snakemake in `folder`; return its exit code and output."""
    command = ["snakemake", "--profile", str(root / "workflow/profiles" / profile), "-s", str(root / "Snakefile")]
    command += ["--directory", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout + done.stderr
