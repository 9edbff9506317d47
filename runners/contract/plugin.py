"""Gives pytest `--method` and `--config-dir` where the contract is among what it collects.

It is found by an entry point, so in every session of pytest beside an installed tunebench: to all
other sessions it adds nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from results.errors import UserError

pytest.register_assert_rewrite("runners.contract.test_promises")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Add the options, and keep the hub's libraries off the network before they are imported."""
    if not any(re.match(r"runners[./]contract(?!\.plugin)", argument) for argument in args):
        return
    group = parser.getgroup("contract of methods")
    group.addoption(
        "--method",
        action="append",
        dest="contract_methods",
        metavar="NAME",
        help="the method to test; may be repeated, without it every registered one",
    )
    group.addoption(
        "--config-dir",
        type=lambda folder: Path(folder).expanduser(),
        dest="contract_configs",
        metavar="DIR",
        help="a folder whose method/NAME.yaml holds options, as for run.py",
    )
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an unknown method, or a folder that is not there, in one line."""
    from methods.registry import method_class

    folder = config.getoption("contract_configs", None)
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(
            f"--config-dir {folder}: no such folder; name one with method/*.yaml"
        )
    try:
        for name in config.getoption("contract_methods", None) or ():
            method_class(name)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
