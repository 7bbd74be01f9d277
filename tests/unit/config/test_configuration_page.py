"""docs/configuration.md: as the schema says, a meaning for every key, and names that the released codes have."""

import re

import pytest

from facts.configuration import DOCUMENT, NAMES, all_tables, rendered, schema_of
from facts.effective import load_facts


def test_the_page_is_up_to_date():
    command = "make configuration, or PYTHONPATH=src:tests python -m facts.configuration"
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), f"run {command}"


@pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.title)
def test_every_key_has_a_meaning(table):
    fields = schema_of(table.block)["properties"]
    silent = [key for key, field in fields.items() if "const" not in field and not field.get("description")]
    assert not silent, "describe it next to the field"


def test_names_are_of_keys_and_in_the_released_codes():
    quotes: dict[str, str] = {}
    for fact in load_facts("released"):
        key = fact["setting"].rpartition(".")[2]
        quotes[key] = f"{quotes.get(key, '')} {fact.get('quote', '')}"
    for part, names in NAMES.items():
        known = {key for table in all_tables() if table.names == part for key in schema_of(table.block)["properties"]}
        assert names.keys() <= known, part
        for key, name in names.items():
            for word in re.findall(r"\w+", name.get("code", "")):
                assert re.search(rf"\b{word}\b", quotes[key]), (part, key, word)
