"""The process layer: how many processes have started, and what a failed collective says."""

from types import SimpleNamespace

import pytest

from unmask.common import distributed
from unmask.common.errors import InputError, TransientError
from unmask.common.world_size import REQUESTED, request_processes, started_processes


@pytest.mark.parametrize("started", ["", "1", "2", "4"])
def test_another_number_of_processes_than_requested_is_an_error(started, monkeypatch):
    """As with `accelerate launch --cpu --num_processes 2`, which starts one."""
    monkeypatch.setenv(REQUESTED, "1")  # so that it is gone afterwards
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if started:
        monkeypatch.setenv("WORLD_SIZE", started)
    request_processes(2)
    if started == "2":
        assert started_processes() == 2
        return
    said = f"2 processes were requested and {started or 1} started; use src/launch.py or torchrun --nproc-per-node 2"
    with pytest.raises(InputError, match=said), distributed.joined():
        pytest.fail("the work begins with too few processes")


def test_without_a_request_any_number_is_right(monkeypatch):
    monkeypatch.delenv(REQUESTED, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert started_processes() == 3


def test_a_single_process_has_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(distributed, "PartialState", lambda **_: pytest.fail("a group for one process"))
    with distributed.joined(), distributed.rank0_first():
        assert (distributed.world(), distributed.rank()) == (1, 0)
        assert distributed.values(7) == [7]
        assert distributed.total(0.5) == 0.5
        assert distributed.any_rank(True, False) == [True, False]


@pytest.mark.parametrize(("error", "kind"), [
    (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:20911"), TransientError),
    (RuntimeError("NCCL communicator was aborted on rank 0"), TransientError),
    (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), RuntimeError),
])  # fmt: skip
def test_a_collective_inside_of_the_model_that_fails_says_that_the_others_are_lost(error, kind, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "_state", None)
    monkeypatch.setattr(distributed, "PartialState", lambda **_: SimpleNamespace(num_processes=2, process_index=0))
    monkeypatch.setattr(distributed.utils, "reduce", lambda one, _reduction: 2 * one)
    with pytest.raises(RuntimeError if kind is RuntimeError else TransientError) as found, distributed.joined():
        raise error
    assert type(found.value) is kind
    assert kind is RuntimeError or str(found.value).startswith("process 0 of 2 lost the others: one has exited")
