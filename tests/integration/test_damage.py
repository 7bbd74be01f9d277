"""Files with a flipped bit or a lost end: found by their hash and named with the way out, never read otherwise."""

import json
import random
import shutil

import pytest
import torch

from helpers import steps
from unmask.common.checksums import SUMS, verify_checksums, write_checksums
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest, write_manifest
from unmask.common.parquet import read_rows, write_rows
from unmask.config.specs import RunSpec
from unmask.evaluation.shards import ShardStore
from unmask.models.loading import check_trained
from unmask.tasks._examples import read_examples
from unmask.training.checkpoint import Checkpoint

RUN = "dmpo/sudoku/default/seed-0"


AGAIN = ". Delete it and run snakemake again."


def outcome(read, file):
    """What was read, or what was said instead."""
    try:
        return read(file), ""
    except InputError as error:
        return None, str(error)


def flipped(content, rng):
    """With one bit the other way round."""
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def torn(content, rng):
    """Without the end."""
    return content[: rng.randrange(len(content))]


def damage(file, times):
    """Damage a file in so many ways, one after the other, half of them by tearing; whole again at the end."""
    whole, rng = file.read_bytes(), random.Random(file.name)
    for time in range(times):
        file.write_bytes((flipped, torn)[time % 2](whole, rng))
        yield time
    file.write_bytes(whole)


@pytest.fixture
def adapter(policy, tmp_path):
    """A saved adapter."""
    policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"], seed=0)
    policy.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_damaged_adapter_is_named_file_by_file(adapter):
    check_trained(adapter)
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert {file.name for file in adapter.iterdir()} == names | {SUMS}
    for name in names:
        for _ in damage(adapter / name, 100):
            with pytest.raises(InputError) as caught:
                check_trained(adapter)
            said = f"{adapter}: {name}: not as recorded in {SUMS}, so damaged or changed. Delete the folder and run"
            assert str(caught.value).startswith(said)
    check_trained(adapter)


def test_an_adapter_is_the_same_bytes_in_every_process(policy, tmp_path):
    """PEFT keeps the names of its targets in a set."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=targets, seed=0)
    policy.save(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert written["target_modules"] == sorted(targets)


def test_every_bit_of_a_small_sealed_file_counts(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xff" * 8)
    write_checksums(tmp_path)
    for file in (tmp_path / "a", tmp_path / SUMS):
        whole = file.read_bytes()
        for bit in range(8 * len(whole)):
            file.write_bytes(bytes(byte ^ (1 << bit % 8 if i == bit // 8 else 0) for i, byte in enumerate(whole)))
            with pytest.raises(InputError, match=SUMS):
                verify_checksums(tmp_path)
        file.write_bytes(whole)
    verify_checksums(tmp_path)


def test_sha256sum_writes_what_is_read(tmp_path):
    (tmp_path / "a b").write_text("x")
    write_checksums(tmp_path)
    assert (tmp_path / SUMS).read_text() == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881  a b\n"


@pytest.mark.parametrize("change", ["missing", "another", "no sums"])
def test_a_sealed_folder_with_other_files_is_refused(adapter, change):
    if change == "another":
        (adapter / "config.json").write_text("{}")
    else:
        (adapter.parent / "manifest.json").write_text("{}")  # so the adapter is this workflow's, which seals its own
        (adapter / (SUMS if change == "no sums" else "adapter_config.json")).unlink()
    named = {"missing": "adapter_config.json", "another": "config.json", "no sums": SUMS}[change]
    with pytest.raises(InputError, match=named):
        check_trained(adapter)


@pytest.mark.parametrize("where", ["adapter/adapter_model.safetensors", "weights/model.safetensors"])
def test_no_sample_is_drawn_from_damaged_weights(made, tmp_path, where):
    """The step says so before it samples: no line of progress, no file."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / ("train_policy" if where.startswith("adapter") else "prepare_model")
    content = (folder / where).read_bytes()
    for _ in range(3):
        (folder / where).write_bytes(flipped(content, random.Random(where)))
        ended = steps.run("evaluate_policy", tmp_path, tmp_path / "out")
        assert ended.code == 1
        name = where.partition("/")[2]
        assert ended.said.startswith(f"evaluate_policy: {(folder / where).parent}: {name}: not as recorded in {SUMS}")
        assert len(ended.said.strip().splitlines()) == 1
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_damaged_checkpoint_is_not_resumed_from(tmp_path, capsys):
    for step in (1, 2):
        tensors = {"a": torch.full((3,), float(step))}
        Checkpoint(step, tensors, {"0.step": torch.ones(())}, tensors, [{"loss": step}], tensors, tensors).save(
            tmp_path, "x"
        )
    newest = shutil.copytree(tmp_path / "step-000002", tmp_path / "kept")
    for name in sorted(file.name for file in newest.iterdir()):
        for _ in damage(newest / name, 40):
            shutil.copytree(newest, tmp_path / "step-000002", dirs_exist_ok=True)
            assert Checkpoint.newest(tmp_path, "x").step == 1
            assert f"step-000002: damaged ({tmp_path / 'step-000002'}" in capsys.readouterr().out
    shutil.copytree(newest, tmp_path / "step-000002")
    assert Checkpoint.newest(tmp_path, "x").step == 2


ROWS = [{"question": f"0{i}", "answer": "é", "difficulty": i, "numbers": [i, 2], "share": i / 3} for i in range(40)]


def test_a_damaged_parquet_file_is_refused_or_holds_the_same_rows(tmp_path):
    """Bits that are read by nobody, such as a page's statistics, are harmless."""
    file = tmp_path / "rows.parquet"
    write_rows(file, ROWS)
    whole = read_rows(file)
    found = [outcome(read_rows, file) for _ in damage(file, 600)]
    assert all(one.equals(whole) for one, said in found if not said)
    assert all(said.startswith(f"{file}: cannot be read (") and said.endswith(AGAIN) for _, said in found if said)
    assert sum(bool(said) for _, said in found) > 450
    assert read_examples(file)[3]["question"] == "03"


def test_a_damaged_spec_is_refused_or_the_same(grid, tmp_path):
    file, run = tmp_path / "spec.yaml", grid.runs[RUN]
    run.write(file)
    found = [outcome(RunSpec.read, file) for _ in damage(file, 300)]
    assert all(one == run for one, said in found if not said)  # a space more or less
    assert all(said.startswith(f"{file}: ") and "elete it and run snakemake again" in said for _, said in found if said)
    assert sum(bool(said) for _, said in found) > 250


def test_a_spec_changed_by_hand_is_taken_with_its_digest(grid, tmp_path):
    file = tmp_path / "spec.yaml"
    grid.runs[RUN].write(file)
    file.write_text(file.read_text().replace("lora_rank: 4", "lora_rank: 8"))
    with pytest.raises(InputError, match="write the digest of the values there if you edited it on purpose") as caught:
        RunSpec.read(file)
    old, new = (word.split("'")[1] for word in str(caught.value).split(" is ")[1].split(" but its values have "))
    file.write_text(file.read_text().replace(old, new))
    assert RunSpec.read(file).training.lora_rank == 8


def test_a_damaged_manifest_is_refused(grid, tmp_path):
    file = tmp_path / "manifest.json"
    write_manifest(file, grid.runs[RUN].digest, {}, [], 0.0)
    whole = read_manifest(file)
    found = [outcome(read_manifest, file) for _ in damage(file, 400)]
    assert all(one == whole for one, said in found if not said)  # a space more or less
    assert all(said.startswith(f"{file}: ") and said.endswith(AGAIN) for _, said in found if said)
    assert sum(bool(said) for _, said in found) > 350


def test_a_damaged_part_of_an_evaluation_is_made_again_or_holds_the_same_rows(tmp_path):
    kept, rng = ShardStore(tmp_path, "x"), random.Random(0)
    rows = [{"completion": f"<answer>{i}</answer>", "answer": str(i), "strict": i % 2 == 0, "nfe": i} for i in range(5)]
    kept.write("part", rows)
    content = (tmp_path / "part.parquet").read_bytes()
    assert kept.read("part") == rows
    for _ in range(300):
        (tmp_path / "part.parquet").write_bytes(flipped(content, rng))
        assert kept.read("part") in (None, rows)
