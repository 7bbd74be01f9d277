"""What a method returns has one row for each response; anything else is refused with the method and the shape."""

import re
from dataclasses import dataclass, replace

import pytest
import torch

from helpers.every_method import COUPLED
from helpers.small_trainer import small_trainer
from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.methods import Method
from unmask.methods.coupled_grpo import CoupledGrpo
from unmask.models.tabular import TabularModel
from unmask.rl.buffer_data import NoData
from unmask.rl.likelihoods import Copies
from unmask.rl.row_checks import check_buffer_data, check_losses, check_update_data
from unmask.training.tabular import Loop, train

EIGHT = torch.zeros(8)


@dataclass(frozen=True)
class Changed(CoupledGrpo):
    """coupled-GRPO with one of its results put through a function."""

    where: str = "loss"
    change: object = None

    def prepare(self, *given):
        found = super().prepare(*given)
        return self.change(found) if self.where == "prepare" else found

    def refresh(self, *given):
        found = super().refresh(*given)
        return self.change(found) if self.where == "refresh" else found

    def loss(self, *given):
        found = super().loss(*given)
        return self.change(found) if self.where == "loss" else found


def changed(where, change):
    return Changed(**vars(COUPLED), where=where, change=change)


@pytest.mark.parametrize(
    ("where", "change", "said"),
    [
        ("loss", lambda found: (found[0].mean(), found[1]), "loss returned a tensor of shape [] for 5 responses"),
        ("loss", lambda found: (found[0][:, None], found[1]), "loss returned a tensor of shape [5, 1] for 5"),
        ("loss", lambda found: (0.5, found[1]), "loss returned a float for 5 responses"),
        ("loss", lambda found: (found[0], {"kl": found[0].mean()}), "shape [] as metric 'kl' for 5 responses"),
        ("prepare", lambda found: replace(found, kl=EIGHT.mean()), "returned a tensor of shape [] as 'kl' for 8"),
        ("prepare", lambda found: replace(found, kl=EIGHT[:4]), "returned a tensor of shape [4] as 'kl' for 8"),
        ("prepare", lambda found: found.advantage, "prepare returned a tensor of shape [8], not a RatioBuffer"),
        ("prepare", lambda found: NoData(), "prepare returned a NoData, not a RatioBuffer, its buffer_type"),
        ("refresh", lambda found: replace(found, masks={"rate": 0.5}), "refresh returned a float as 'masks.rate' for"),
        ("refresh", lambda found: None, "refresh returned a NoneType, not a dataclass"),
    ],
)  # fmt: skip
def test_a_wrong_shape_stops_the_training_with_the_method_and_the_shape(
    config, policy, sudoku, tmp_path, where, change, said
):
    training = {"group_size": 4, "micro_batch_size": 5}
    method = changed(where, change)
    one = small_trainer(config, policy, sudoku, tmp_path, "coupled_grpo", algorithm=method, **training)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        one.train()
    assert f"test_row_checks.Changed.{where}" in str(caught.value)
    assert not list(tmp_path.glob("step-*"))  # before the first update is done


def test_the_exact_laboratory_refuses_a_mean_as_well():
    model = TabularModel(2, 2, 0.5, torch.Generator().manual_seed(0))
    method = changed("loss", lambda found: (found[0].mean(), found[1]))
    loop = Loop(groups=2, group_size=4, updates=1, updates_per_buffer=1, learning_rate=0.1)
    with pytest.raises(InputError, match=r"loss returned a tensor of shape \[\] for 8 responses"):
        list(train(model, torch.arange(4.0), method, loop, Seeds((0,))))


def test_rows_first_is_accepted():
    data = Copies(torch.zeros(8, 3, 2), EIGHT)
    assert check_update_data(Method(), data, 8) is data
    assert check_buffer_data(Method(), NoData(), 8) == NoData()
    check_losses(Method(), EIGHT, {"kl": EIGHT}, 8)
