"""A configuration with wrong values: what is read of it, so that one mistake hides no other and makes none up."""

from helpers.configs import lines
from unmask.config.grid.expand import expand
from unmask.config.normalize import normalise
from unmask.config.schema.samplers import TopK
from unmask.config.validation.parse import parse


def test_a_valid_configuration_is_read_whole(config):
    parsed = parse(normalise(config))
    assert parsed.lines == []
    assert parsed.config.samplers["top1"] == TopK(tokens_per_step=1, score="confidence")


def test_wrong_values_are_left_out_and_the_rest_is_kept(config):
    config["scales"]["smoke"] |= {"seeds": "many", "lenghts": [8]}
    config["samplers"]["top2"]["tokens_per_step"] = "two"
    config["experiments"]["main"]["methods"].append(3)
    methods = config["experiments"]["main"]["methods"][:-1]
    parsed = parse(normalise(config))
    smoke = parsed.config.scales["smoke"]
    assert (smoke.seeds, smoke.tasks) == ([], config["scales"]["smoke"]["tasks"])
    assert "top2" in parsed.config.samplers
    assert parsed.config.experiments["main"].methods == methods
    assert all(parsed.is_wrong(path) for path in ("scales.smoke.seeds", "scales.smoke"))


def test_a_mistake_hides_no_other_in_its_block(config):
    config["scales"]["smoke"] |= {"seeds": "many", "tasks": ["sudok"]}
    assert lines(config) == [
        "scales.smoke.seeds: input should be a valid list, not 'many'",
        "scales.smoke.tasks: unknown 'sudok'; did you mean 'sudoku'?",
    ]


def test_a_broken_block_makes_no_mistake_of_names_that_refer_to_it(config):
    config["samplers"]["top1"] = None
    config["methods"]["dmpo"] = 3
    config["methods"]["d1"]["algorithm"] = 3
    assert [line.split(":")[0] for line in lines(config)] == ["samplers.top1", "methods.dmpo", "methods.d1.algorithm"]


def test_whole_numbers_are_stored_as_they_are_written(config):
    """Specs of finished runs have them so: another digest would repeat the runs."""
    config["training"]["weight_decay"] = 0
    config["scales"]["smoke"]["training"]["weight_decay"] = 1
    run = expand(config).runs["dmpo/sudoku/default/seed-0"]
    assert repr(run.values()["training"]["weight_decay"]) == "1"
    assert repr(run.values()["training"]["temperature"]) == "1.0"
