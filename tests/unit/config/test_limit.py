"""A limit on test problems: the same training runs, and no file that could be taken for that of a whole evaluation."""

import pytest

from unmask.analysis.decoding_protocol import Protocol
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.planning.targets import asked, unknown_targets, unlimited


def files(grid):
    """Every file that an evaluation or what follows it writes."""
    found = set()
    for name in grid.experiments:
        found |= {*grid.samples(name), *grid.artifacts(name)}
        found |= {f"{grid.root}/{kind}/{name}.csv" for kind in ("scores", "metrics")}
    return found


def test_no_file_is_shared_but_all_runs_are(config):
    whole, limited, other = expand(config), expand(config | {"limit": 8}), expand(config | {"limit": 16})
    assert not files(whole) & files(limited)
    assert not files(limited) & files(other)
    assert whole.runs == limited.runs
    shared = whole.specs.keys() & limited.specs.keys()
    assert all(whole.specs[name].digest == limited.specs[name].digest for name in shared)
    assert all("-on-" in name for name in whole.specs.keys() - shared)  # transfers are limited as well
    assert expand(config | {"limit": 0}).specs == whole.specs
    experiment = limited.experiments["main-first8"]
    assert experiment.question.endswith("(trial: only the first 8 test problems of each task)")
    run = experiment.runs[0]
    assert limited.evaluated(run, "papers-first8") != limited.evaluated(run, "papers")
    assert limited.evaluations["papers-first8"].limit == 8
    transfers = limited.evaluations["adaptive-first8-on-sudoku"]
    assert (transfers.limit, transfers.task) == (8, "sudoku")
    assert limited.diagnoses["surrogates-first8"].examples == min(8, whole.diagnoses["surrogates"].examples)


def test_no_difference_to_a_printed_number_is_formed(config):
    config["scale"] = "llada-8b"
    whole, limited = expand(config), expand(config | {"limit": 8})
    ours, theirs = Protocol.of(limited, "main-first8"), Protocol.of(whole, "main")
    assert not set(ours.problems.items()) & set(theirs.problems.items())


def test_targets_are_those_of_the_whole_experiment(config):
    grid, whole = expand(config | {"limit": 8}), expand(config)
    assert asked(grid, ["main"]) == asked(whole, ["main"])
    assert unknown_targets(grid, ["main"], ["main", "all"]) == []
    (line,) = unknown_targets(grid, ["results/smoke/tables/main.md"], [])
    assert line.endswith("is of all test problems; with this limit it is main-first8")
    refused = ["all", "everything", "tune", "so_far", "so_far_main", "results/smoke/claims.md"]
    assert [line.partition(":")[0] for line in unlimited(grid, [*refused, "main", "plan"])] == refused
    assert unlimited(whole, refused) == []


def test_a_block_with_the_name_of_a_limited_one_is_refused(config):
    config["evaluations"]["papers-first8"] = config["evaluations"]["papers"]
    with pytest.raises(ConfigError, match="reserved for transfers between tasks and for limits"):
        expand(config | {"limit": 8})
