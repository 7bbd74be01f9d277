"""Overrides on the command line: what they say, over which values, and that jobs of a cluster are told the same."""

import shlex

import pytest
from snakemake_interface_executor_plugins.utils import format_cli_arg

from unmask.config.grid.expand import expand
from unmask.config.loading import CONFIG, default_files, load_config, merge
from unmask.config.normalize import normalise
from unmask.config.origins import origins
from unmask.config.overrides import assignments, of_snakemake, with_overrides
from unmask.config.schema import Config

FILES = [*default_files(), CONFIG]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a.b=1", [("a.b", 1)]),
        ("a=1, b = two ,c=true", [("a", 1), ("b", "two"), ("c", True)]),
        ("a=[1, 2],b={x: 1, y=z: 3},c='d, e=1'", [("a", [1, 2]), ("b", {"x": 1, "y=z": 3}), ("c", "d, e=1")]),
        ("a={b: [1, {c: 2}], d: 3},e=null", [("a", {"b": [1, {"c": 2}], "d": 3}), ("e", None)]),
        ("a=What, and why?", [("a", "What, and why?")]),
        ("a=b=c", [("a", "b=c")]),
    ],
)
def test_text_is_read_as_pairs_of_key_and_yaml(text, pairs):
    assert assignments(text) == pairs


def test_a_value_is_what_a_file_would_say():
    """The same run digests as with a file over config.yaml, and nothing else changes."""
    base = load_config() | {"scale": "smoke"}
    text = "methods.dmpo.alpha=2e-1,scales.smoke.training={buffers: 2, lora_targets: [q_proj]}"
    changed, alone = with_overrides(base, [text, "models.llada-1.5.source=local"])
    file = {
        "methods": {"dmpo": {"alpha": "2e-1"}},
        "scales": {"smoke": {"training": {"buffers": 2, "lora_targets": ["q_proj"]}}},
        "models": {"llada-1.5": {"source": "local"}},
    }
    assert alone == file
    assert changed == merge(base, file)
    assert base == load_config() | {"scale": "smoke"}
    del changed["models"], file["models"]
    runs = [expand(one | {"models": base["models"]}).runs for one in (changed, merge(base, file))]
    assert runs[0] == runs[1]
    run = runs[0]["dmpo/sudoku/default/seed-0"]
    assert (run.training.buffers, run.training.lora_targets, run.method_settings["alpha"]) == (2, ["q_proj"], 0.2)


def test_a_path_sets_one_axis_and_a_block_the_whole_grid():
    base = load_config()
    one, _ = with_overrides(base, ["experiments.weight_baselines.grid.group_size=[4]"])
    assert one["experiments"]["weight_baselines"]["grid"].keys() == {"baseline", "group_size"}
    whole, _ = with_overrides(base, ["experiments.weight_baselines.grid={group_size: [4]}"])
    assert whole["experiments"]["weight_baselines"]["grid"] == {"group_size": [4]}


WORDS = ["scale=smoke", "overwrite=true", "set=methods.dmpo={baseline: 'none'},training.lora_targets=[q_proj]",
         'set=experiments.main.question="How, now?"', "training={buffers: 2}"]  # fmt: skip


def test_the_words_after_config_are_overrides_but_for_ours():
    assert of_snakemake(WORDS) == ["scale=smoke", WORDS[2][4:], WORDS[3][4:], WORDS[4]]
    _, given = with_overrides(load_config(), of_snakemake(WORDS))
    assert given["training"] == {"buffers": 2, "lora_targets": ["q_proj"]}


def test_jobs_of_a_cluster_get_the_same_words():
    """Snakemake quotes them for the shell of a job, and the plugin for SLURM once more."""
    call = format_cli_arg("--config", WORDS)
    assert shlex.split(call)[1:] == WORDS
    wrapped = f'sbatch --wrap="{call}"'.replace('--wrap="', "").removesuffix('"').removeprefix("sbatch ")
    escaped = wrapped.replace('"', '\\"')
    (inner,) = shlex.split(f'"{escaped}"')
    assert shlex.split(inner)[1:] == WORDS


def test_the_command_line_is_the_origin_of_what_it_sets():
    raw, given = with_overrides(load_config(), ["methods.dmpo.alpha=0.3", "training={lora_rank: 2}"])
    config = Config.model_validate(normalise(raw) | {"scale": "one-gpu"})
    found = origins(config.layers_of("dmpo", "sudoku"), FILES, given)
    assert (found["alpha"].value, found["alpha"].place, found["alpha"].line) == (
        0.3,
        "methods.dmpo",
        "the command line",
    )
    by_line = {key for key, one in found.items() if one.line == "the command line"}
    assert by_line <= {"alpha", "lora_rank"}
    layers = [("training", config.training)]
    assert origins(layers, FILES, given)["lora_rank"].line == "the command line"
    assert origins(layers, FILES, given)["lora_alpha"].line.startswith("config.yaml:")
