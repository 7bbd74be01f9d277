"""Lines of progress: often enough that nobody wonders, seldom enough that a log stays short."""

import re
import time

import pytest

from helpers.small_trainer import sudoku_trainer
from helpers.streams import streams
from unmask.common.progress import Progress
from unmask.config.schema.samplers import TopK
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_each_ten_seconds_and_later_each_minute(clock, capsys):
    progress = Progress("work", 36000)
    for second in range(1, 36000):
        clock[0] = float(second)
        progress.show(second)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "work  10/36000  ETA 35990 s"
    assert 600 < len(lines) < 650  # ten hours
    progress.show(36000)
    assert capsys.readouterr().out == "work  36000/36000  35999 s\n"


def test_a_part_has_no_last_line_and_nothing_is_said_without_a_name(clock, capsys):
    for name in ("run: sampling", ""):
        progress = Progress(name, 8, unit="tokens", part=True)
        clock[0] += 9
        progress.show(8)
        assert capsys.readouterr().out == ""
        clock[0] += 9
        progress.show(4)
        assert capsys.readouterr().out == ("run: sampling  4/8 tokens  ETA 18 s\n" if name else "")


def test_decoding_reports_tokens_after_every_pass(policy):
    prompt, mask = policy.pad([[10, 11, 12], [13, 14]])
    said = []
    top2 = TopK(tokens_per_step=2, score="confidence")
    settings = DecodingSettings(16, 8, top2, temperature=0.0)
    decode(policy.model, prompt, mask, settings, eot=-1, streams=streams(2), report=said.append)
    assert said == [4, 8, 12, 16, 20, 24, 28, 32]


def test_a_training_run_says_what_it_is_at(config, policy, sudoku, tmp_path, capsys, monkeypatch):
    """As if every look at the clock were a minute later."""
    now = iter(range(0, 10**9, 60))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    sudoku_trainer(config, policy, sudoku, tmp_path, buffers=2, updates_per_buffer=1, validate_every=1).train()
    said = capsys.readouterr().out
    for what in ("sampling", "scoring", "gradient", "validation"):
        pattern = rf"dmpo/sudoku/default/seed-0  buffer 2/2: {what}  \d+/\d+ (tokens|responses)  ETA \d+ s"
        assert re.search(pattern, said), what
    for line in re.findall(r"sampling  (\d+)/(\d+) tokens", said):
        assert int(line[0]) <= int(line[1]) == 2 * 4 * 24
