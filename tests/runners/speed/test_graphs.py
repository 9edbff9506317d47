"""Steps that are replayed are the steps, each once; Replay stands in for CUDA graphs on a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from methods.method import Method
from results.record import read_all
from runners.contract.guard import as_on_a_gpu
from runners.contract.replay import Replay, equal, flattened
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed import repeat
from runners.speed.repeat import Recorded, Repeats
from runners.training.loop import Loop
from runners.training.prepare import Prepared, prepare
from runners.training.repeating import KNOWN
from tests.conftest import Cli, architectures, configure, tiny

Folder = Callable[[str], Path]
STEPS = 14
# 44 rows in batches of 8: the last of an epoch has 4. Texts of one length, and of several.
SETS = ("data.train_size=44", f"budget.steps={STEPS}", "budget.max_length=24", "lr=1e-3")


@pytest.fixture(autouse=True)
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
    monkeypatch.setattr(repeat, "REPAYS", 3)
    with as_on_a_gpu():
        yield


def _ready(folder: Path, *more: str, methods: Sequence[Method] = ()) -> Prepared:
    config = configure(*tiny(folder, "task=rte", *SETS, *more))
    object.__setattr__(config, "methods", (*config.methods, *methods))
    return prepare(Job(config), make_accelerator("cpu", config))


def _loop(folder: Path, *more: str, methods: Sequence[Method] = ()) -> Loop:
    return _ready(folder, *more, methods=methods).loop


def _run(loop: Loop, until: int) -> None:
    """Train from the start, under the dropout of every other loop here."""
    torch.manual_seed(7)
    loop.run(until)


def _differing(one: Loop, other: Loop) -> list[str]:
    first, second = flattened(one.state_dict()), flattened(other.state_dict())
    assert first.keys() == second.keys()
    return [name for name in first if not equal(first[name], second[name])]


def _repeats(loop: Loop) -> Repeats:
    assert loop.repeats is not None
    return loop.repeats


class _Diary(Replay):
    """Writes down of each batch how it was done."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("cpu")
        self.lines = lines

    def record(self, act: Any, generators: Any) -> Recorded:
        self.lines.append("captured")
        recorded = super().record(act, generators)
        self.lines.pop()  # it was done by itself meanwhile

        def again() -> None:
            self.lines.append("replayed")
            recorded.again()

        return Recorded(recorded.results, again)


def test_each_length_is_captured_once_where_enough_of_it_are_to_come(tiny_folder: Folder) -> None:
    loops, lines = [], []
    for on in ("false", "true"):
        ready = _ready(tiny_folder("bert"), f"speed.graphs={on}")
        ready.loop.start(ready.encoded)
        loops.append(ready.loop)
    plain, loop = loops
    act = loop._act
    loop._act = lambda batch: (lines.append("by itself"), act(batch))[1]
    _repeats(loop).capture = _Diary(lines)
    _run(plain, STEPS)
    _run(loop, 5)
    for until in (5, 6, STEPS):
        loop.run(until)
        loop.state_dict()  # puts all rows of the vocabulary back, for a while
    shapes = [plain.collate.shape(indices) for indices in plain.order.batches(0, STEPS)]
    seen, kept, expected = Counter[Any](), set(), []
    for place, shape in enumerate(shapes):
        seen[shape] += 1
        if shape in kept:
            expected.append("replayed")
        elif seen[shape] > 1 and shapes[place:].count(shape) >= 3:
            kept.add(shape)
            expected.append("captured")
        else:
            expected.append("by itself")
    assert lines == expected
    assert {shape[0] for shape in shapes} == {4, 8}
    assert {"by itself", "captured", "replayed"} == set(expected)
    assert loop.progress.losses == plain.progress.losses
    assert loop.progress.real_tokens == plain.progress.real_tokens
    assert loop.progress.padded_tokens == plain.progress.padded_tokens
    assert _differing(plain, loop) == []
    assert loop.levers.facts(loop.model)["vocabulary_rows"]


@pytest.mark.parametrize("given", ["hype", "[rdrop,lora]"])
def test_going_on_from_a_state_comes_to_the_same_end(given: str, tiny_folder: Folder) -> None:
    typed = (f"method={given}", "budget.max_length=16", "data.train_size=48", "budget.steps=10")
    whole, first, rest = (_loop(tiny_folder("bert"), *typed) for _ in range(3))
    _run(whole, 10)
    _run(first, 6)
    rest.load_state_dict(first.state_dict())
    assert {type(group["lr"]) for group in rest.optimizer.param_groups} == {torch.Tensor}
    rest.run(10)
    assert _repeats(first).repeated == 4
    assert _repeats(rest).repeated == 2
    assert _differing(whole, rest) == []


def test_checkpoints_hold_rates_as_numbers(tiny_folder: Folder) -> None:
    loop = _loop(tiny_folder("bert"))
    loop.run(2)
    state = loop.state_dict()
    assert all(type(group["lr"]) is float for group in state["optimizer"]["param_groups"])
    assert all(type(rate) is float for rate in state["schedule"]["_last_lr"])
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(loop.rate, rel=1e-6)


class _NoRoom(Replay):
    """Has no memory for a capture, and leaves gradients behind."""

    def record(self, act: Any, generators: Any) -> Recorded:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


class _LosesIt(Replay):
    """As when a capture that has no memory cannot be ended either."""

    def record(self, act: Any, generators: Any) -> Recorded:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error") from None


@pytest.mark.parametrize("capture", [_NoRoom, _LosesIt])
def test_where_a_capture_has_no_memory_all_goes_on_without(
    capture: type[Replay], tiny_folder: Folder
) -> None:
    plain, loop = _loop(tiny_folder("bert"), "speed.graphs=false"), _loop(tiny_folder("bert"))
    _repeats(loop).capture = capture("cpu")
    _run(plain, STEPS)
    _run(loop, STEPS)
    assert _differing(plain, loop) == []
    said = {"captured": 0, "replayed": 0, "hindrance": "memory ran out while a step was captured"}
    assert loop.levers.facts(loop.model)["graphs"]["training"] == said
    assert loop.micro_batch is None


def test_a_step_without_memory_is_done_again_without_graphs(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, loop = (_loop(tiny_folder("bert"), "budget.dropout=0.0") for _ in range(2))
    whole, tried = loop.forward, []

    def forward(batch: Any) -> Any:
        tried.append(batch["input_ids"].shape[0])
        if tried.count(4) == 1 and tried[-1] == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(batch)

    monkeypatch.setattr(loop, "forward", forward)
    _run(plain, STEPS)
    _run(loop, STEPS)
    assert _differing(plain, loop) == []
    assert _repeats(loop).hindrance == "memory ran out"
    assert loop.micro_batch is None


def test_another_error_while_capturing_names_the_way_out(tiny_folder: Folder) -> None:
    loop = _loop(tiny_folder("bert"))

    class Fails(Replay):
        def record(self, act: Any, generators: Any) -> Recorded:
            raise RuntimeError("operation not permitted when stream is capturing")

    _repeats(loop).capture = Fails("cpu")
    with pytest.raises(RuntimeError, match="not permitted") as raised:
        loop.run(STEPS)
    assert raised.value.__notes__ == ["speed.graphs=false does without a graph"]


class _Third(Method):
    """A method of another package, which claims nothing and may be captured or not."""

    name: ClassVar[str] = "third"

    def __init__(self, factor: Callable[[int], float]) -> None:
        super().__init__()
        self.factor = factor

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.factor(step))


@pytest.mark.parametrize(
    ("factor", "hindered"),
    [(lambda step: 0.5, False), (lambda step: 1 / (1 + step), True)],
    ids=["the same at each step", "another at each step"],
)
def test_a_method_of_another_package_is_looked_at_first(
    factor: Callable[[int], float], hindered: bool, tiny_folder: Folder
) -> None:
    given = ("budget.max_length=16", "data.train_size=48")
    plain, loop = (
        _loop(tiny_folder("bert"), *given, f"speed.graphs={on}", methods=[_Third(factor)])
        for on in ("false", "true")
    )
    _run(plain, STEPS)
    _run(loop, STEPS)
    assert _differing(plain, loop) == []
    repeats = _repeats(loop)
    assert bool(repeats.hindrance) == hindered
    assert ("another argument in each step" in repeats.hindrance) == hindered
    # The first by itself, two looked at, one captured.
    assert repeats.repeated == (0 if hindered else STEPS - 4)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["task=mlm", "mlm.on=[rte]"], "batches have unlike numbers of masked tokens"),
        (["mix=[mnli,stsb]"], "each batch says which task it is of"),
        (
            ["task=rte", "optimizer=super_adam", "optimizer.tau=1"],
            "super_adam computes two gradients a step",
        ),
        (["task=rte", "method=pats_provisional"], "pats_provisional: its noise depends on"),
        (["task=rte", "speed.gradient_checkpointing=true"], "set random streams back"),
    ],
)
def test_what_cannot_be_captured_says_why(given: list[str], why: str, tiny_folder: Folder) -> None:
    config = configure(*tiny(tiny_folder("bert"), *given))
    loop = prepare(Job(config), make_accelerator("cpu", config)).loop
    loop.run(2)
    assert why in loop.levers.facts(loop.model)["graphs"]["training"]["hindrance"]


def test_a_record_says_what_was_captured_and_its_name_does_not(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    records = []
    given = ("task=rte", *SETS[:-2], "budget.max_length=16", "data.train_size=48")
    for on in ("false", "true"):
        out = tmp_path / on
        typed = tiny(tiny_folder("bert"), *given, f"speed.graphs={on}", f"out={out}")
        done = cli(*typed, "budget.evaluate=3")
        assert done.code == 0, done.err
        records += read_all(out)
    plain, replayed = records
    assert plain.environment["padded_to"] == replayed.environment["padded_to"] == 8
    assert "graphs" not in plain.environment
    graphs = replayed.environment["graphs"]
    assert graphs["training"] == {"captured": 1, "replayed": STEPS - 2}
    assert graphs["evaluation"] == {"captured": 1, "replayed": 3}
    assert plain.run == replayed.run
    assert plain.trained_sha256 == replayed.trained_sha256
    assert plain.predictions == replayed.predictions
    assert plain.losses == replayed.losses


HINDERED = {
    "deberta-v2": "makes a tensor of numbers of the host",
    "xlnet": "reads a number from the device",
    "t5": "makes a tensor of numbers of the host",
}


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_every_architecture(architecture: str, tiny_folder: Folder) -> None:
    """The types that are trusted may be captured; the others are looked at, and captured or not."""
    given = ("budget.max_length=16", "data.train_size=48", "budget.steps=6")
    plain, loop = (
        _loop(tiny_folder(architecture), *given, f"speed.graphs={on}") for on in ("false", "true")
    )
    trusted = _repeats(loop).trusted
    assert trusted == (architecture in KNOWN)
    _run(plain, 6)
    _run(loop, 6)
    assert _differing(plain, loop) == []
    repeats = _repeats(loop)
    hindered = architecture in HINDERED
    assert bool(repeats.hindrance) == hindered
    assert HINDERED.get(architecture, "") in repeats.hindrance
    assert repeats.repeated == (4 if trusted else 0 if hindered else 2)


def test_autocast_and_its_copies_of_weights_too(tiny_folder: Folder) -> None:
    given = ("precision=bf16", "budget.max_length=16", "data.train_size=48", "budget.steps=6")
    loops = []
    for on in ("false", "true"):
        ready = _ready(tiny_folder("bert"), *given, f"speed.graphs={on}")
        ready.loop.start(ready.encoded)
        _run(ready.loop, 3)
        ready.loop.state_dict()
        ready.loop.run(6)
        loops.append(ready.loop)
    plain, loop = loops
    assert loop.levers.facts(loop.model)["bf16_copies"]
    assert _repeats(loop).repeated == 4
    assert _differing(plain, loop) == []


@pytest.mark.parametrize(
    "given",
    [
        "optimizer=adamw_nobc",
        "optimizer.matrix=coordinate optimizer.bias_correction=true",
        "optimizer.matrix=amsgrad optimizer.decay=budget budget.weight_decay=0.1",
        "optimizer.matrix=norm",
        "optimizer.matrix=coordinate_norm",
    ],
)
def test_every_optimizer(given: str, tiny_folder: Folder) -> None:
    """A replay does the step; numbers on the device are those of the host, rounded."""
    sizes = ("budget.max_length=16", "data.train_size=48", "budget.steps=7")
    chosen = [*given.split(), *sizes, "budget.dropout=0.0"]
    if given != "optimizer=adamw_nobc":
        chosen += ["optimizer=super_adam", "optimizer.tau=0"]
    plain, first, rest, loop = (
        _loop(tiny_folder("bert"), *chosen, f"speed.graphs={x}")
        for x in ("false", "true", "true", "true")
    )
    _run(plain, 7)
    _run(loop, 7)
    _run(first, 4)
    rest.load_state_dict(first.state_dict())
    rest.run(7)
    assert _differing(plain, loop) == _differing(plain, rest) == []
    assert _repeats(loop).repeated == 5
    repeat.CAPTURES.pop("cpu")
    on_host = _loop(tiny_folder("bert"), *chosen)
    on_host.run(7)
    assert on_host.repeats is None
    assert on_host.progress.losses == pytest.approx(loop.progress.losses, rel=1e-3)
    theirs = dict(loop.model.named_parameters())
    for name, parameter in on_host.model.named_parameters():
        if "key.bias" not in name:  # its gradient is rounding noise
            torch.testing.assert_close(parameter, theirs[name], rtol=1e-3, atol=1e-4)
