"""Broken configurations: change a value, read the error lines."""

import pytest

from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand


def lines(config):
    """The error lines of a configuration that is refused."""
    with pytest.raises(ConfigError) as caught:
        expand(config)
    return caught.value.lines


def put(config, path, value):
    """Set the value at a dotted path."""
    *blocks, key = path.split(".")
    for block in blocks:
        config = config.setdefault(block, {})
    config[key] = value
