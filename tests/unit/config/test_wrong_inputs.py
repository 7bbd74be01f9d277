"""Wrong inputs as users write them: one clear line that names key and file, and what it suggests works.

Where a line suggests a name, a place or a removal, the test does what it says, and nothing may be wrong after that.
Other rows have a fix of their own.
"""

import copy
import re

import pytest
import yaml

from unmask.common.errors import InputError
from unmask.config.blame import by_file
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config, merge
from unmask.config.overrides import with_overrides

FILE = "mine.yaml"
BASE = load_config() | {"scale": "smoke"}

MISPLACED = {  # YAML of a file over config.yaml: where the key belongs
    "experiments: {main: {seeds: [7]}}": "experiments.main: unknown 'seeds'; it belongs to scales.NAME",
    "seeds: [7]": "unknown 'seeds'; it belongs to scales.NAME",
    "scales: {smoke: {training: {seeds: [7]}}}": "scales.smoke.training: unknown 'seeds'; it belongs to scales.smoke",
    "methods: {dmpo: {block_length: 4}}": "methods.dmpo: unknown 'block_length'; it belongs to scales.NAME",
    "training: {alpha: 0.1}": "training: unknown 'alpha'; it belongs to methods.dmpo",
    "training: {checkpoint_minutes: 3}": "training: unknown 'checkpoint_minutes'; it belongs to runtime",
    "runtime: {buffers: 3}": "runtime: unknown 'buffers'; it belongs to training",
    "scales: {smoke: {buffers: 3}}": "scales.smoke: unknown 'buffers'; it belongs to scales.smoke.training",
    "scales: {smoke: {gpus: 3}}": "scales.smoke: unknown 'gpus'; it belongs to scales.smoke.cost",
    "buffers: 3": "unknown 'buffers'; it belongs to training",
    "dmpo: {alpha: 0.1}": "unknown 'dmpo'; it belongs to methods",
    "tasks: {sudoku: {learning_rate: 0.1}}": "tasks.sudoku: unknown 'learning_rate'; it belongs to training",
    "experiments: {main: {training: {buffers: 3}}}": "experiments.main: unknown 'training'; it belongs to the top",
    "experiments: {main: {temperature: 0.5}}": "experiments.main: unknown 'temperature'; it belongs to training",
    "scales: {smoke: {methods: {d1: {start_from: sft}}}}": "unknown 'start_from'; it belongs to methods.d1",
}  # fmt: skip

MISSPELT = {
    "methods: {dmpo: {alhpa: 0.1}}": "methods.dmpo: unknown 'alhpa'; did you mean 'alpha'?",
    "methods: {dmpo: {alpha: 0.1, alpa: 0.2}}": "methods.dmpo: unknown 'alpa'; did you mean 'alpha'?",
    "training: {learning_rte: 0.1}": "training: unknown 'learning_rte'; did you mean 'learning_rate'?",
    "training: {sampler: top3}": "training.sampler: unknown 'top3'; did you mean 'top",
    "experiment: {}": "unknown 'experiment'; did you mean 'experiments'?",
    "experiments: {main: {task: [sudoku]}}": "experiments.main: unknown 'task'; did you mean 'tasks'?",
    "experiments: {main: {methods: [base, dmppo]}}": "experiments.main.methods: unknown 'dmppo'; did you mean 'dmpo",
    "experiments: {main: {tasks: [sodoku]}}": "experiments.main.tasks: unknown 'sodoku'; did you mean 'sudoku'?",
    "experiments: {main: {figures: [training_curve]}}": "experiments.main.figures: unknown 'training_curve'; did",
    "experiments: {alpha: {grid: {alphas: [0.1, 0.5]}}}": "unknown 'alphas'; did you mean 'alpha'?",
    "evaluations: {papers: {samplers: [top_1]}}": "evaluations.papers.samplers: unknown 'top_1'; did you mean 'top1'?",
    "methods: {d1: {start_from: stf}}": "methods.d1.start_from: unknown 'stf'; did you mean 'sft'?",
    "methods: {dmpo: {by_task: {sudokku: {alpha: 0.1}}}}": "unknown 'sudokku'; did you mean 'sudoku'?",
    "scale: smok": "scale: unknown 'smok'; did you mean 'smoke'?",
    "fidelity: realeased": "fidelity: unknown 'realeased'; did you mean 'released'?",
    "scales: {smoke: {experiments: [mian]}}": "scales.smoke.experiments: unknown 'mian'; did you mean 'main'?",
    "scales: {smoke: {model: smokey}}": "scales.smoke.model: unknown 'smokey'; did you mean 'smoke'?",
}  # fmt: skip

VALUES = {  # the line, and a value in place of the wrong one that works
    "training: {buffers: two}": ("training.buffers: input should be a valid integer, not 'two'", 2),
    "training: {buffers: 0}": ("training.buffers: input should be greater than or equal to 1, not 0", 1),
    "training: {buffers: 2.5}": ("training.buffers: input should be a valid integer, not 2.5", 2),
    "training: {learning_rate: fast}": ("training.learning_rate: input should be a valid number, not 'fast'", 0.1),
    "training: {learning_rate: -1}": ("training.learning_rate: input should be greater than 0, not -1", 0.1),
    "training: {lora_targets: q_proj}": ("training.lora_targets: input should be a valid list, not", ["q_proj"]),
    "training: {lora_targets: [query]}": ("training.lora_targets.0: input should be 'q_proj', 'k_proj'", "q_proj"),
    "training: {schedule: step}": ("training.schedule: input should be 'constant', 'cosine' or 'linear', not 'step'",
                                   "cosine"),
    "training: {mask_padding: yess}": ("training.mask_padding: input should be a valid boolean, not 'yess'", False),
    "scales: {smoke: {seeds: 3}}": ("scales.smoke.seeds: input should be a valid list, not 3", [3, 4]),
    "scales: {smoke: {seeds: [0, 0]}}": ("scales.smoke.seeds: 0 appears twice; remove one", [0, 1]),
    "evaluations: {papers: {samples_per_problem: 4}}": ("evaluations.papers: samples_per_problem > 1 needs",
                                                        {"samples_per_problem": 1}),
    "limit: many": ("limit: input should be a valid integer, not 'many'", 8),
    "limit: -1": ("limit: input should be greater than or equal to 0, not -1", 0),
    "training:": ("training: input should be a valid dictionary, not None", {"buffers": 2}),
}  # fmt: skip

OVERRIDES = {  # the text after `set=`: the line, and the text that works
    "methods.dmpo.alhpa=0.1": ("methods.dmpo: unknown 'alhpa'; did you mean 'alpha'?", "methods.dmpo.alpha=0.1"),
    "training.buffers=two": ("training.buffers: input should be a valid integer, not 'two'", "training.buffers=2"),
    "training.lora_targets=q_proj,v_proj": ("training.lora_targets: input should be a valid list, not 'q_proj,v_proj'",
                                            "training.lora_targets=[q_proj,v_proj]"),
    "methods.dmpo={alpha:0.1}": ("methods.dmpo: unknown 'alpha:0.1'; write a space after the colon",
                                 "methods.dmpo={alpha: 0.1}"),
    "training.seeds=[3]": ("training: unknown 'seeds'; it belongs to scales.NAME", "scales.smoke.seeds=[3]"),
    "scales.smoke.training.buffers=2,scales.smoke.lenghts=[24]": (
        "scales.smoke: unknown 'lenghts'; did you mean 'lengths'?",
        "scales.smoke.training.buffers=2,scales.smoke.lengths=[24]",
    ),
    "method.dmpo.alpha=0.1": ("unknown 'method'; did you mean 'methods'?", "methods.dmpo.alpha=0.1"),
}  # fmt: skip

NO_OVERRIDES = {  # the text after `set=` that is none: what is said, and the text that works
    "training.buffers": ("'training.buffers' is no setting with a value; write KEY=VALUE", "training.buffers=8"),
    "training.buffers=": ("training.buffers has no value; write KEY=VALUE", "training.buffers=8"),
    "training buffers=2": ("'training buffers' is no setting with a value", "training.buffers=8"),
    "training.buffers:2": ("'training.buffers:2' is no setting with a value", "training.buffers=8"),
    "scales.smoke.seeds=[1, 2": ("scales.smoke.seeds=[1, 2: no valid YAML", "scales.smoke.seeds=[1, 2]"),
    "methods.dmpo={alpha: 0.1": ("methods.dmpo={alpha: 0.1: no valid YAML", "methods.dmpo={alpha: 0.1}"),
    "training.buffers=2,training.buffers=3": ("training.buffers is set twice; remove one", "training.buffers=3"),
}


def mistakes(config):
    try:
        expand(config)
    except ConfigError as error:
        return error.lines
    return []


def block_at(config, path):
    """The block that holds the value at a dotted path, and its key there."""
    *parents, last = path.split(".")
    for key in parents:
        config = config[key]
    return config, last


def repaired(config, line):
    """The configuration after what a line suggests was done; None if it suggests nothing."""
    config = copy.deepcopy(config)
    place, _, text = line.partition(": ")
    suggested = re.fullmatch(
        r"(?:config.yaml: )?unknown '(.+)'; (did you mean '(.+)'\?|it belongs to (.+?)( or .*)?|remove it)", text
    )
    if not suggested:
        return None
    name, _, other, home, _ = suggested.groups()
    holder, last = ({"": config}, "") if place == "config.yaml" else block_at(config, place)
    block = holder[last]
    if isinstance(block, list):
        holder[last] = [other if item == name else item for item in block]
    elif block == name:
        holder[last] = other
    else:
        value = block.pop(name)
        if other:
            block[other] = merge(block.get(other), value)
        elif home:
            merged = {name: value}
            keys = [] if home == "the top level" else home.replace("scales.NAME", "scales.smoke").split(".")
            for key in reversed(keys):
                merged = {key: merged}
            config = merge(config, merged)
    return config


@pytest.mark.parametrize("text", [*MISPLACED, *MISSPELT])
def test_what_a_message_suggests_works(text):
    wanted = (MISPLACED | MISSPELT)[text]
    given = yaml.safe_load(text)
    config = merge(BASE, given)
    (line,) = mistakes(config)
    assert wanted in line
    assert by_file([line], config, [(FILE, given)]).startswith(f"{FILE} has 1 mistake:\n  - ")
    assert mistakes(repaired(config, line)) == []


@pytest.mark.parametrize("text", VALUES)
def test_a_wrong_value_is_said_with_what_is_expected(text):
    wanted, value = VALUES[text]
    given = yaml.safe_load(text)
    config = merge(BASE, given)
    if given == {"training": None}:  # a section without lines is not given at all if a default file has it
        config = BASE | given
    (line,) = mistakes(config)
    assert line.startswith(wanted)
    assert by_file([line], config, [(FILE, given)]).startswith(f"{FILE} has 1 mistake:\n  - ")

    place = line.partition(": ")[0]
    change = value
    for key in reversed(place.removesuffix(".0").split(".")):
        change = {key: [change] if place.endswith(".0") and not isinstance(change, dict | list) else change}
    assert mistakes(merge(BASE, change)) == []


@pytest.mark.parametrize("text", OVERRIDES)
def test_a_wrong_override_is_said_as_of_the_command_line(text):
    wanted, fixed = OVERRIDES[text]
    config, given = with_overrides(BASE, [text])
    (line,) = mistakes(config)
    assert wanted in line
    message = by_file([line], config, [("the command line", given)])
    assert message.startswith("the command line has 1 mistake:\n  - ")
    assert mistakes(with_overrides(BASE, [fixed])[0]) == []


@pytest.mark.parametrize("text", NO_OVERRIDES)
def test_what_is_no_override_is_refused(text):
    wanted, fixed = NO_OVERRIDES[text]
    with pytest.raises(InputError) as caught:
        with_overrides(BASE, [text])
    assert str(caught.value).startswith(f"the command line: {wanted}")
    assert "\n" not in str(caught.value)
    assert mistakes(with_overrides(BASE, [fixed])[0]) == []


def test_no_key_is_suggested_in_its_own_place():
    """As a line once did: unknown 'seeds'; did you mean 'seeds'?"""
    from unmask.config.validation.messages import unknown

    for key in ("seeds", "sampler", "model", "task"):
        for known in ({key}, {key, f"{key}s"}, set()):
            for is_key in (False, True):
                assert f"mean '{key}'" not in unknown(key, known, "experiments.main", is_key)
