# unmask: reinforcement learning for masked diffusion language models, from config.yaml to tables, figures and claims.
#
#   snakemake --profile laptop all            every table and figure of the laptop scale
#   snakemake --profile laptop main           one experiment of config.yaml (report_main: its report, too)
#   snakemake --profile laptop --config set=methods.dmpo.alpha=0.1 -- main      with another value of a setting
#   snakemake --profile laptop results/laptop/runs/dmpo/sudoku/default/seed-0/adapter      one run
#   snakemake --profile slurm -n all          dry run of the papers' scale
#   snakemake --profile slurm plan            progress and cost of its runs (plan_main: of one experiment)
#   snakemake --profile slurm checkpoints     released checkpoints, each with its base model (checkpoints/NAME: one)
#   snakemake --profile slurm --nolock so_far       tables from finished runs (so_far_main: of one experiment)
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# The folder of this file: also if workflow/Snakefile includes it, unlike workflow.basedir.
CLONE = str(workflow.current_basedir)
sys.path.insert(0, f"{CLONE}/src")
from unmask.common.errors import InputError
from unmask.config.loading import syntax_error, with_defaults
from unmask.config.overrides import COMMAND_LINE, of_snakemake, with_overrides

# Parsed before Snakemake does it, so that a YAML syntax error is reported with its line.
CONFIGFILES = [str(file) for file in workflow.config_settings.configfiles]
for file in [f"{CLONE}/config.yaml", *CONFIGFILES]:
    if not file.endswith(".json") and (wrong := syntax_error(file)) is not None:
        raise WorkflowError(wrong)


configfile: f"{CLONE}/config.yaml"


# Used only with `--sdm apptainer`; built from envs/unmask.def (docs/cluster.md). Snakemake takes no path with a space,
# and without an image there is nothing to name.
if Path(CLONE, "unmask.sif").exists():

    container: f"{CLONE}/unmask.sif"


# `--config overwrite=true` allows replacing expensive finished runs. Neither is a key of config.yaml, hence pop().
OVERWRITE = str(config.pop("overwrite", False)).lower() == "true"
config.pop("set", None)
# Snakemake reads the values of `--config` as text, so its words are read again, as YAML.
OVERRIDES = of_snakemake(workflow.config_settings.config_args or [])

# What neither config.yaml nor the command line sets comes from workflow/config/.
try:
    complete, overridden = with_overrides(with_defaults(config), OVERRIDES)
    config.update(complete)
except InputError as broken:
    raise WorkflowError(str(broken)) from None

from unmask.common.gpu_locks import lend_cards
from unmask.common.patterns import one_of
from unmask.config.blame import by_file, file_of, shown
from unmask.config.grid.expand import expand
from unmask.config.errors import ConfigError

# What is not in the project's own files, the strongest first: messages name where a wrong value is from.
GIVEN = [(COMMAND_LINE, overridden)]
GIVEN += [(shown(Path(file)), load_configfile(file)) for file in reversed(CONFIGFILES)]

# Every mistake in these files is found here, before any job starts, also in a dry run.
try:
    GRID = expand(config)
except ConfigError as mistakes:
    raise WorkflowError(by_file(mistakes.lines, config, GIVEN)) from None
except InputError as broken:
    raise WorkflowError(str(broken)) from None

for line in GRID.warnings if workflow.is_main_process else ():
    place = file_of(line, config, GIVEN)
    logger.warning(f"{place}, in a scale that is not in use: {line}")

# On a CPU, tensors come from malloc, which would return their memory to the system and fetch it again page by page: with
# large pages that stay, jobs take 7 % fewer CPU seconds (docs/develop/performance.md).
ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=67108864"
)
if not GRID.cost.gpu_memory:
    os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)  # jobs inherit it

SRC = f"{CLONE}/src"
# Rules use $SRC and shell variables for paths and runtime settings: moving the clone, `--directory` or another runtime
# setting then changes no rule and reruns nothing. UNMASK_WORKFLOW makes a step mark refused input (failures.smk).
shell.prefix(
    f"set -euo pipefail; export UNMASK_WORKFLOW=1; SRC={shlex.quote(SRC)}; "
    f"CHECKPOINT_MINUTES={GRID.runtime.checkpoint_minutes}; "
    f"ACTIVATION_CHECKPOINTING={str(GRID.runtime.activation_checkpointing).lower()}; "
    f"export UNMASK_SANDBOX={GRID.runtime.sandbox}; "
    f"TRACKERS='{' '.join(GRID.runtime.trackers)}'; "
    f"OVERWRITE_ABOVE={'inf' if OVERWRITE else GRID.runtime.overwrite_above}; "
)
# If the profile limits the resource `gpu`, local jobs share one machine's GPUs through locks (common/gpu_locks.py).
lend_cards(getattr(workflow.resource_settings.resources.get("gpu"), "value", None))


# To limit submissions, Snakemake 9.27 starts a timer at every look for jobs, and its end triggers the next look. Each
# finished job so adds a chain of looks that lasts as long as jobs wait, and with hundreds of jobs they fill half a core.
# We need no limit; one that is set (not 100/1s, Snakemake's default) stays.
onstart:
    limiter = workflow.scheduler.job_rate_limiter
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


wildcard_constraints:
    scale=GRID.place,
    run=one_of(GRID.runs),
    model=one_of(GRID.models),
    task=one_of(GRID.datasets),
    evaluation=one_of(GRID.evaluations),
    diagnosis=one_of(GRID.diagnoses),
    experiment=one_of(GRID.experiments),
    released=one_of(GRID.checkpoints),
    figure=one_of(f for one in GRID.experiments.values() for f in one.figures),


rule all:
    """Make the experiments that the scale lists, the verdicts on the papers' claims, and the report."""
    input:
        [path for name in GRID.wanted for path in GRID.targets(name)],
        f"results/{GRID.place}/claims.md",
        f"results/{GRID.place}/figures/exact_toy.png",
        f"results/{GRID.place}/tables/exact_toy.md",
        f"results/{GRID.place}/report.html",


rule everything:
    """Make all experiments except those marked `apart`, with the claims and the report on them."""
    input:
        rules.all.input,
        [path for name in GRID.everything for path in GRID.targets(name)],
        f"results/{GRID.place}/all_claims.md",
        f"results/{GRID.place}/all_report.html",


# One target rule per experiment, so that `snakemake NAME` works.
for name in GRID.experiments:
    target = name.removesuffix(GRID.ending)

    rule:
        name:
            target
        input:
            GRID.targets(name),

    # A docstring cannot be an expression; `snakemake --list` shows it.
    workflow.get_rule(target).docstring = GRID.experiments[name].question


include: "workflow/rules/common.smk"
include: "workflow/rules/failures.smk"
include: "workflow/rules/lineage.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/diagnose.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/exact.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/so_far.smk"
include: "workflow/rules/start.smk"
