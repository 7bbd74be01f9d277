"""The cluster, a workflow in a folder of its own on it, and what an undisturbed run of that workflow makes."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slurm import cluster
from slurm.workflow_folder import LONG, RUN, Workflow, run_locally


@pytest.fixture(scope="session")
def slurm() -> Iterator[tuple[Path, dict[str, str]]]:
    """A running cluster: its folder and the environment of its commands."""
    if why := cluster.missing():
        pytest.skip(f"no SLURM to test on: {why}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, also by children, if started with nohup or &
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    yield folder, cluster.up(folder)
    cluster.down(folder)
    shutil.rmtree(folder)


@pytest.fixture
def make_workflow(slurm, tmp_path):
    """Makes a workflow's folder."""
    started = Workflow(tmp_path / "work", slurm[1])
    yield lambda: started
    for number in started.ask("squeue", "-h", "-o", "%i %Z").splitlines():
        if number.endswith(str(started.folder)):
            started.ask("scancel", "--signal=KILL", number.split()[0])


@pytest.fixture(scope="session")
def undisturbed(slurm, tmp_path_factory):
    """A folder in which the long run was trained on this machine without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "long.yaml").write_text(yaml.safe_dump(LONG), encoding="utf-8")
    run_locally(folder, folder / "long.yaml", f"{RUN}/adapter")
    return Workflow(folder, os.environ.copy())


@pytest.fixture
def prepared(make_workflow, undisturbed):
    """Makes a workflow whose data and base model are there and whose run is to be trained."""

    def make(**changes):
        workflow = make_workflow()
        shutil.copytree(undisturbed.folder, workflow.folder, copy_function=shutil.copy2)
        shutil.rmtree(workflow.folder / RUN / "adapter")
        for name in ("metrics.csv", "manifest.json"):
            (workflow.folder / RUN / name).unlink()
        shutil.rmtree(workflow.folder / "logs")
        workflow.write(LONG, **changes)
        return workflow

    return make


@pytest.fixture
def kill():
    """Ends a process of a test by its number."""
    return lambda number: os.kill(number, signal.SIGKILL)
