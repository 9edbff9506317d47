"""What pytest shows of the contract: its options, and one line for a wrong name."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from methods.method import Method
from methods.registry import method_class, registered
from runners.contract import plugin
from runners.contract.test_promises import KINDS


def options(*arguments: str) -> list[str]:
    parser = mock.Mock()
    plugin.pytest_load_initial_conftests(parser, arguments)
    return [call.args[0] for call in parser.getgroup.return_value.addoption.mock_calls]


@pytest.mark.parametrize(
    "argument",
    ["runners.contract", "runners.contract.test_promises::test_x[a]", "runners/contract"],
)
def test_options_are_there_where_the_contract_is_collected(argument: str) -> None:
    assert options("-v", "--pyargs", argument) == ["--method", "--config-dir"]


@pytest.mark.parametrize(
    "arguments", [["tests"], ["-p", "runners.contract.plugin"], ["--method=mine"], []]
)
def test_other_sessions_get_no_options(arguments: list[str]) -> None:
    assert options(*arguments) == []


def configuration(**values: object) -> mock.Mock:
    config = mock.Mock()
    config.getoption = lambda name, default: values.get(name, default)
    return config


def test_unknown_method_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(pytest.UsageError, match=r"^no method called 'bitft'; did you mean bitfit"):
        plugin.pytest_configure(configuration(contract_methods=["full", "bitft"]))
    plugin.pytest_configure(configuration(contract_methods=["full"]))
    plugin.pytest_configure(configuration())


def test_folder_of_configurations_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match=r"nowhere: no such folder"):
        plugin.pytest_configure(configuration(contract_configs=tmp_path / "nowhere"))
    plugin.pytest_configure(configuration(contract_configs=tmp_path))


def test_each_promise_is_tested_for_every_method_that_it_fits() -> None:
    def fitting(kind: str) -> set[str]:
        return {name for name, cls in registered().items() if KINDS[kind][0](cls, None)}

    vectors = {"embedding", "promptbert", "simcse"}
    assert fitting("method") == fitting("written") == set(registered())
    assert fitting("training") == set(registered()) - {"embedding"}
    assert fitting("labelled") == set(registered()) - vectors
    assert {"hype", "llrd", "smart"} <= fitting("changing") <= fitting("labelled")


def test_what_a_class_says_for_the_contract_stays_out_of_runs() -> None:
    from tests.conftest import configure

    stored = configure("method=hype", "task=rte").method_options()
    assert method_class("hype").no_strength is not None
    facts = {n for n, v in vars(Method).items() if not callable(v) and not n.startswith("_")}
    assert "no_strength" in facts
    assert set(stored[0]) & facts == {"name", "version"}
