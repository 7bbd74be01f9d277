"""Printed numbers beside ours: a difference is formed only where the protocol is the same."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers import planted
from helpers.paths import ROOT, SHARED
from unmask.analysis import paper_entries, paper_results, tables
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.paper_evaluations import EVALUATIONS, PROBLEMS
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.tasks._released_prompts import prompt_place

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data")

RESOURCE = ROOT / "workflow/resources/published_results.yaml"
OURS = planted.PROTOCOL


@pytest.fixture(scope="module")
def printed():
    return paper_results.read(RESOURCE, paper_entries.read(RESOURCE.with_name("papers.yaml")))


def cells(method="dmpo", task="countdown", sampler="top1", length=256, variant="default", accuracy=0.75):
    return pd.DataFrame([{
        "task": task, "sampler": sampler, "method": method, "variant": variant, "length": length,
        "published": accuracy, "published_low": accuracy - 0.02, "published_high": accuracy + 0.02,
        "strict": accuracy, "strict_low": accuracy, "strict_high": accuracy, "nfe": 256.0, "seeds": 3, "n": 256,
    }])  # fmt: skip


def test_delta_where_the_protocol_matches(printed):
    row = paper_results.join_published(cells(), printed, OURS).iloc[0]
    assert (row["paper"], row["paper_source"]) == (80.86, "DMPO, arXiv 2510.08233v3, Table 1")
    assert row["delta"] == pytest.approx(75 - 80.86)


@pytest.mark.parametrize(
    ("cell", "protocol", "why"),
    [
        ({"sampler": "top2"}, {}, "decoded in L steps"),
        ({"method": "diffu_grpo"}, {}, "decoded in L/2 steps"),
        ({"method": "d1"}, {}, "trained on s1K first; here the first stage is SFT on the demonstrations of the task"),
        ({}, {"temperature": 0.2}, "decoded at temperature 0.0, ours at 0.2"),
        ({}, {"generated": ["countdown"]}, "our test problems are generated"),
        ({"sampler": "entropy_01"}, {}, "decoded in L steps"),
        ({}, {"problems": {}}, "other test problems"),
        (
            {"task": "sudoku"},
            {"problems": {"sudoku": PROBLEMS["sudoku"][0].replace("42", "43")}},
            "other test problems",
        ),
        ({}, {"prompts": {}}, "another prompt"),
        ({}, {"prompts": OURS.prompts | {"countdown": OURS.prompts["gsm8k"]}}, "another prompt"),
        ({}, {"block_length": 8}, "decoded in blocks of 32, ours of 8"),
        ({}, {"mask_padding": True}, "with padding not masked, ours masked"),
        ({"method": "spg"}, {}, "its denoising steps are not stated; its test problems are not known to be ours; its"),
        ({}, {"orders": {"top1": "entropy"}}, "decoded in the order of confidence, ours of entropy"),
    ],
)
def test_delta_is_never_formed_across_protocols(printed, cell, protocol, why):
    one = paper_results.join_published(cells(**cell), printed, Protocol(**{**vars(OURS), **protocol})).iloc[0]
    assert one["paper"] > 0
    assert one["paper_differs"].startswith(why)
    assert one["delta"] != one["delta"]


def test_printed_numbers_of_dream_are_not_compared(printed, config):
    """The paper states temperature 0.95, which is the script's top_p, and no order of the positions."""
    from unmask.config.grid.expand import expand

    protocol = Protocol.of(expand(config | {"scale": "llada-8b"}), "dream")
    assert (protocol.steps, protocol.orders) == ({"top1_entropy": "L"}, {"top1_entropy": "entropy"})
    one = paper_results.join_published(cells(sampler="top1_entropy"), printed, protocol).iloc[0]
    assert one["paper"] == 54.43
    assert one["paper_differs"].startswith(
        "decoded at temperature 0.95, ours at 0.2; the order of its positions is not stated; "
    )
    assert "top_p" not in one["paper_differs"]
    wider = dataclasses.replace(protocol, top_p={})
    assert (
        paper_results.join_published(cells(sampler="top1_entropy"), printed, wider)
        .iloc[0]["paper_differs"]
        .endswith("drawn with top_p 0.95, ours with 1")
    )


def test_a_first_stage_on_the_same_corpus_is_comparable(printed, config):
    from unmask.config.grid.expand import expand

    protocol = Protocol.of(expand(config | {"scale": "llada-8b"}), "main")
    assert protocol.first_stages == {"d1": "s1k"}
    protocol = dataclasses.replace(OURS, first_stages=protocol.first_stages)
    row = paper_results.join_published(cells("d1", "gsm8k"), printed, protocol).iloc[0]
    assert (row["paper_differs"], row["delta"]) == ("", pytest.approx(75 - 81.4))


@pytest.mark.parametrize("cell", [{"variant": "alpha~1.0"}, {"length": 24}, {"task": "chain"}, {"method": "spgg"}])
def test_nothing_is_printed_for_another_variant_length_task_or_method(printed, cell):
    assert paper_results.join_published(cells(**cell), printed, OURS)["paper"].isna().all()


def test_another_base_model_has_no_number_beside_it_but_a_block_apart(printed):
    tiny = Protocol("tiny", 0.0, OURS.steps, ["countdown"])
    ours = tables.with_printed(paper_results.join_published(cells(), printed, tiny))
    assert ours[["paper", "delta"]].isna().all(axis=None)
    heading, body = paper_results.apart(ours, printed, tiny)
    assert heading.startswith("Published: models of 7 to 8 billion parameters, not `tiny`")
    assert list(body.columns) == [
        "Task",
        "Method",
        "Model",
        "Steps",
        "Checkpoint",
        "Source",
        "L = 128",
        "L = 256",
        "L = 512",
    ]
    assert body.set_index("Model").loc["llada-8b-instruct", "L = 256"] == "80.9"
    assert "Δ" not in tables.markdown("main", "", *tables.blocks(ours))


def test_the_table_shows_delta_or_parentheses_with_the_reason(printed):
    both = pd.concat([cells(), cells(method="diffu_grpo")], ignore_index=True)
    note, blocks = tables.blocks(tables.with_printed(paper_results.join_published(both, printed, OURS)))
    body = blocks[0][1].set_index("Method")
    assert body.loc["DMPO", "paper, L = 256"] == "80.9 (Δ -5.9)"
    assert body.loc["diffu-GRPO", "paper, L = 256"] == "(31.3) [1]"
    assert "where the protocol is another: [1] decoded in L/2 steps." in note
    assert note.endswith(
        "How the printed checkpoints were chosen: DMPO, arXiv 2510.08233v3, Table 1: not stated; the code evaluates "
        "several checkpoints of a run on the test sets; d1, arXiv 2504.12216, as printed in SPG, arXiv 2510.09541, "
        "Table 8: the best on the test set."
    )


def test_strict_scores_have_no_printed_number_beside_them(printed):
    ours = cells().assign(strict=0.5)
    blocks = tables.blocks(tables.with_printed(paper_results.join_published(ours, printed, OURS)))[1]
    assert ["paper, L = 256" in body for _, body in blocks] == [True, False]


@pytest.mark.parametrize(("scale", "experiment"), [("laptop", "main"), ("llada-8b", "main")])
def test_the_protocol_is_read_off_the_configuration(config, scale, experiment):
    found = Protocol.of(expand(config | {"scale": scale}), experiment)
    assert found.steps == {"top1": "L", "top2": "L/2"}
    assert (found.model, found.generated) == {
        "laptop": ("tiny", ["sudoku", "countdown"]),
        "llada-8b": ("llada-8b-instruct", []),
    }[scale]


WRONG = {
    "steps": ("L/3", r"entry 1 \(A\)\.steps: "),
    "modle": ("x", r"entry 1 \(A\): unknown 'modle'; did you mean 'model'"),
    "methods": ({"dmpo": {"sudoku": {128: 630.8}}}, r"entry 1 \(A\)\.methods\.dmpo\.sudoku\.128: .* not 630\.8"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_entry_is_named(tmp_path, key):
    value, message = WRONG[key]
    entry = {"source": "A", "model": "m", "steps": "L", "methods": {"dmpo": {"sudoku": {128: 1.0}}}, key: value}
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        paper_results.read(tmp_path / "printed.yaml", [])


@pytest.fixture
def papers(config, tmp_path, monkeypatch):
    """The protocol of `main` at the papers' scale under a fidelity, with the files of ../shared and these prompts."""
    monkeypatch.chdir(tmp_path)
    for name in ("countdown/test.jsonl", "sudoku/test.csv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        shutil.copy(DATA / name, tmp_path / "data" / name)
    for task in PROBLEMS:
        Path(prompt_place(task, "evaluation")).parent.mkdir(exist_ok=True)
        Path(prompt_place(task, "evaluation")).write_text(f"{task}: {{question}}", encoding="utf-8")

    def of(fidelity, **changes):
        config["scales"]["llada-8b"]["task_settings"]["sudoku"] |= changes
        return Protocol.of(expand(config | {"scale": "llada-8b", "fidelity": fidelity}), "main")

    return of


@needs_data
def test_the_papers_test_problems_are_known_by_their_content(papers):
    for task, name in papers("corrected").problems.items():
        assert name in PROBLEMS.get(task, (name,)), task
    for changes in (
        {"test": 255},
        {"test_subset": {"rule": "first"}},
        {"test_subset": {"rule": "numpy_choice", "seed": 1}},
    ):
        assert papers("corrected", **changes).problems["sudoku"] not in PROBLEMS["sudoku"]
    with Path("data/countdown/test.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert papers("corrected").problems["countdown"] not in PROBLEMS["countdown"]


@needs_data
def test_a_difference_needs_the_prompt_of_the_papers(papers, printed, monkeypatch):
    ours, theirs = papers("corrected"), papers("released")
    row = paper_results.join_published(cells(), printed, ours).iloc[0]
    assert (row["paper_differs"], row["delta"] != row["delta"]) == (
        "another prompt; with padding not masked, ours masked",
        True,
    )
    digest = hashlib.sha256(b"countdown: {question}").hexdigest()
    assert theirs.prompts["countdown"] == digest
    assert paper_results.join_published(cells(), printed, theirs).iloc[0]["paper_differs"] == "another prompt"
    known = dataclasses.replace(EVALUATIONS["d1"], prompts={"countdown": digest})
    monkeypatch.setitem(EVALUATIONS, "d1", known)
    assert paper_results.join_published(cells(), printed, theirs).iloc[0]["paper_differs"] == ""


def test_a_reward_is_no_accuracy(printed):
    records = printed[printed["source"] == "DARE"].to_dict("records")
    rows = [paper_results.Row(**record) for record in records]
    assert rows
    assert all("it is a mean reward, not an accuracy" in paper_results.differences(row, "top1", OURS) for row in rows)
