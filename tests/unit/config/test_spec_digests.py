"""Digests of all specs, per scale and fidelity: an accidental change would train every finished run again."""

import pytest
import yaml

from helpers.spec_digests import REFERENCE, choices, overall
from unmask.config.loading import load_config

RECORDED = yaml.safe_load(REFERENCE.read_text(encoding="utf-8"))


def test_every_scale_and_fidelity_is_recorded():
    assert list(RECORDED) == choices(load_config())


@pytest.mark.parametrize("choice", RECORDED)
def test_specs_are_as_recorded(choice, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # local data files, which `make data` fetches, count by their content
    assert overall(choice) == RECORDED[choice], "settings or specs have changed; if on purpose, see the file's header"
