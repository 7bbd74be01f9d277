"""Released checkpoints before anything runs: the catalogue, its hours, and what a dry run refuses."""

import copy

import pytest

from helpers.configs import lines, put
from helpers.paths import ROOT
from unmask.config.grid.checkpoints import evaluated, in_catalogue, samples
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.specs import CheckpointSpec
from unmask.planning.checkpoint_hours import checkpoint_hours, plan_lines
from unmask.planning.pins import loose_revisions
from unmask.planning.readiness import lacking
from unmask.planning.targets import asked, checkpoints_of, unknown_targets

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def papers(tmp_path, monkeypatch):
    """The configuration at the papers' scale, away from the project's data."""
    monkeypatch.chdir(tmp_path)
    return load_config() | {"scale": "llada-8b"}


def test_every_checkpoint_of_the_catalogue_belongs_to_the_papers_scale(papers):
    grid = expand(papers)
    assert grid.checkpoints.keys() == papers["checkpoints"].keys()
    assert {"espo-countdown", "justgrpo-gsm8k", "gdsd-dream-sudoku", "llada-1.5"} <= set(in_catalogue(grid))
    assert not any(name.startswith("egspo") for name in in_catalogue(grid))  # their subfolders are not confirmed
    assert not expand(papers | {"scale": "laptop"}).checkpoints
    printed = grid.checkpoints["egspo-sudoku"].printed[0]
    assert printed.selection == "the best of the last 20 on the test set, separately for each length"


def test_each_repository_is_pinned_on_its_own():
    text = (ROOT / "workflow/config/checkpoints.yaml").read_text(encoding="utf-8")
    loose = loose_revisions(text, load_config())
    assert {one.kind for one in loose} == {"model"}
    blocks = load_config()["checkpoints"].values()
    assert {one.repository for one in loose} == {b["repository"] for b in blocks if b["revision"] == "to be pinned"}
    assert len(loose) == len({one.repository for one in loose})


def test_hours_by_hand(papers):
    grid = expand(papers)
    (one,) = checkpoint_hours(grid, ["espo-countdown"])
    # LLaDA-8B: 32 layers of 4 · 4096² attention, 3 · 4096 · 12288 MLP and 2 · 4096 norm weights, two FLOPs each; 256
    # puzzles with prompts of 200 tokens; L and L/2 passes over the whole sequence at L 128, 256, 512; twice, because
    # the base model is evaluated, too.
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 12288 + 2 * 4096) + 4096
    tokens = sum((length + length // 2) * (200 + length) for length in (128, 256, 512))
    assert one.hours == pytest.approx(2 * 2 * weights * 256 * tokens / (0.3 * 989e12) / 3600)
    assert not one.is_done
    last = plan_lines(grid, in_catalogue(grid))[-1]
    assert last.startswith("14 checkpoints, each with its base model: about ")
    assert "GPU-hours in all" in last


def test_targets(papers):
    grid = expand(papers)
    root = "results/llada-8b"
    assert checkpoints_of(grid, "checkpoints") == checkpoints_of(grid, f"{root}/tables/released_checkpoints.md")
    assert checkpoints_of(grid, "checkpoints/egspo-sudoku") == ["egspo-sudoku"]
    assert checkpoints_of(grid, samples(grid, "espo-sudoku")[0]) == ["espo-sudoku"]
    for other in ("main", "all", f"{root}/checkpoints/espo-sudoku/spec.yaml", "checkpoints/none"):
        assert checkpoints_of(grid, other) == []
    work = asked(grid, ["checkpoints/gdsd-dream-sudoku"])
    assert (work.checkpoints, work.tests, work.models) == ({"gdsd-dream-sudoku"}, {"sudoku"}, {"dream-7b-instruct"})
    assert not work.runs
    assert not work.tasks
    (line,) = unknown_targets(grid, ["checkpoints/espo-coundown"], ["checkpoints/espo-countdown"])
    assert line.endswith("evaluates no checkpoint espo-coundown; did you mean espo-countdown?")


def test_a_dry_run_lists_what_a_checkpoint_lacks(papers, tmp_path):
    found = "\n".join(lacking(expand(papers), asked(expand(papers), ["checkpoints/egspo-sudoku"]), papers))
    assert "checkpoints.egspo-sudoku.revision: 'to be pinned' is not a commit of fatemehdoudi97/egspo-llada-8b" in found
    assert "checkpoints.egspo-sudoku.subfolder: to be confirmed; put the folder" in found
    assert "checkpoints" not in "\n".join(lacking(expand(papers), asked(expand(papers), ["main"]), papers))

    for key, value in {"revision": COMMIT, "subfolder": "sudoku"}.items():
        put(papers, f"checkpoints.egspo-sudoku.{key}", value)
    grid = expand(papers)
    assert "checkpoints" not in "\n".join(lacking(grid, asked(grid, ["checkpoints/egspo-sudoku"]), papers))

    mine = {
        "source": "local",
        "path": "nowhere",
        "kind": "full",
        "base": "llada-1.5",
        "method": "x",
        "tasks": ["sudoku"],
    }
    papers["checkpoints"]["mine"] = mine
    grid = expand(papers)
    assert "checkpoints.mine.path: nowhere is not a folder" in "\n".join(
        lacking(grid, asked(grid, ["checkpoints/mine"]), papers)
    )


@pytest.mark.parametrize(("key", "value", "said"), [
    ("base", "llada-8b", "checkpoints.espo-sudoku.base: unknown 'llada-8b'"),
    ("base", "tiny", "checkpoints.espo-sudoku.base: tiny is trained from scratch; name a published model"),
    ("tasks", ["sudoko"], "checkpoints.espo-sudoku.tasks: unknown 'sudoko'; did you mean 'sudoku'?"),
    ("tasks", ["s1k"], "checkpoints.espo-sudoku.tasks: s1k is a corpus"),
    ("evaluation", "paper", "checkpoints.espo-sudoku.evaluation: unknown 'paper'; did you mean 'papers'?"),
    ("kind", "lora", "checkpoints.espo-sudoku."),
    ("repositroy", "x", "checkpoints.espo-sudoku"),
    ("printed", [{"source": "x", "accuracy": {"sudoku": {"256": 101}}}], "checkpoints.espo-sudoku"),
    ("printed", [{"source": "x", "accuracy": {"gsm8k": {"256": 1}}}], "checkpoints.espo-sudoku.printed.0.accuracy"),
])  # fmt: skip
def test_mistakes_in_the_catalogue_are_found_before_anything_runs(papers, key, value, said):
    put(papers, f"checkpoints.espo-sudoku.{key}", value)
    assert any(line.startswith(said) for line in lines(papers)), lines(papers)


def test_only_what_decides_the_samples_is_in_the_digest(papers):
    def digest(**changes):
        values = copy.deepcopy(papers)
        values["checkpoints"]["espo-sudoku"] |= changes
        return evaluated(expand(values), "espo-sudoku", "sudoku")

    before = digest()
    assert digest(printed=[], method="other", apart=True) == before
    others = [{"revision": COMMIT}, {"subfolder": "a"}, {"kind": "full"}, {"evaluation": "pareto"}]
    others.append({"base": "llada-1.5"})
    assert len({before, *(digest(**changes) for changes in others)}) == 6
    spec = expand(papers).checkpoints["espo-sudoku"].spec
    assert CheckpointSpec.of(spec.values()) == spec
