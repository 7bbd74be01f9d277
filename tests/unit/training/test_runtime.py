"""Settings in `runtime` change no bit of a result."""

import pytest

from helpers.small_trainer import same, sudoku_trainer, trained
from unmask.config.grid.expand import expand
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.training import Training

# Each method has its own passes between two draws: DMPO differentiates copies one by one, coupled-GRPO three passes
# together, DiFFPO two stages.
METHODS = ["dmpo", "coupled_grpo", "diffpo"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rollout_dropout", [False, True])
def test_activation_checkpointing_changes_no_bit(
    config, make_policy, sudoku, tmp_path, monkeypatch, method, rollout_dropout
):
    # A reward that an untrained model earns now and then.
    monkeypatch.setattr(type(sudoku), "reward", lambda _, text, example: {"digits": sum(map(str.isdigit, text)) / 50})
    weights = []
    for checkpointing in (False, True):
        folder = tmp_path / str(checkpointing)
        settings = {"lora_dropout": 0.3, "rollout_dropout": rollout_dropout, "micro_batch_size": 3}
        one = sudoku_trainer(config, make_policy(), sudoku, folder, method, **settings)
        one.activation_checkpointing = checkpointing
        weights.append(trained(one))
        assert one.policy.model.activation_checkpointing is checkpointing
    assert same(*weights)


def test_runtime_settings_are_in_no_spec(config):
    assert not Runtime.model_fields.keys() & Training.model_fields.keys()
    before = {name: spec.digest for name, spec in expand(config).specs.items()}
    changes = {"checkpoint_minutes": 3.0, "activation_checkpointing": True, "overwrite_above": 7.0}
    changes |= {"sandbox": "rlimits", "trackers": ["tensorboard"]}
    assert changes.keys() == Runtime.model_fields.keys()
    config["scales"]["smoke"]["runtime"] = changes
    grid = expand(config)
    assert grid.runtime == Runtime(**changes)
    assert {name: spec.digest for name, spec in grid.specs.items()} == before
