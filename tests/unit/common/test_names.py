"""Names of tasks and samplers in tables and figures."""

from pathlib import Path

import yaml

from unmask.common.catalogue import SAMPLERS, TASKS

ROOT = Path(__file__).parents[3]


def test_every_task_and_sampler_of_the_workflow_has_a_name():
    tasks = yaml.safe_load((ROOT / "workflow/config/tasks.yaml").read_text())["tasks"]
    samplers = yaml.safe_load((ROOT / "config.yaml").read_text())["samplers"]
    assert sorted(tasks.keys() - TASKS.keys()) == []
    assert sorted(samplers.keys() - SAMPLERS.keys()) == []
