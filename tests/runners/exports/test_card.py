"""A model card names no folder of the machine that trained the model."""

from __future__ import annotations

import pytest

from runners.exports.card import without_folders


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("out=/tmp/x/Jane Doe/secret project/runs", "out=runs"),
        ("out='/tmp/x, y/Jane O`Neil/runs'", "out='runs'"),
        ("out=~/Jane Doe/runs", "out=runs"),
        ("--config-dir=/Jane Doe/own/", "--config-dir=own/"),
        ("/home/Jane Doe/key=value/own", "own"),
        ("data.text=[/a b/c.txt,~/d/e f/g h.txt]", "data.text=[c.txt,g h.txt]"),
        ("data.text=['/a b/c.txt','/d e/f.txt']", "data.text=['c.txt','f.txt']"),
        ("hydra.searchpath=[file:///home/Jane Doe/own]", "hydra.searchpath=[own]"),
        ("out=../Jane Doe/runs", "out=../Jane Doe/runs"),
        ("model.name_or_path=org/name", "model.name_or_path=org/name"),
        ("data.text=hub:org/name", "data.text=hub:org/name"),
        ("method=[dp,full]", "method=[dp,full]"),
    ],
)
def test_paths_keep_their_last_part_alone(argument: str, shown: str) -> None:
    assert without_folders(argument) == shown
