"""What --help prints: every key with what the schema says of it, and every method and task."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from results.places import program
from results.printable import printable
from runners.config.acts import Acts, Sweep, Way
from runners.config.settings import (
    AdamWOptions,
    Budget,
    Checkpoint,
    Control,
    Data,
    Model,
    Protocol,
    Settings,
    Speed,
    Start,
    SuperAdamOptions,
)
from runners.config.unlabelled import Generated, Mine, Pseudo
from runners.root import CONFIGS
from runners.subcommands.listing import method_lines, shipped_tasks
from runners.subcommands.words import WORDS

# Each group of keys: its heading, what stands before its keys, and the part of the schema.
GROUPS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A run", "", Settings),
    ("What is done with a stored run instead", "", Acts),
    ("Several runs of one command", "", Way),
    ("Many runs: board=NAME", "", Sweep),
    ("Training: budget=NAME", "budget.", Budget),
    ("Data: data=auto, local, hub or embedded", "data.", Data),
    ("Rows that another run labels", "data.pseudo.", Pseudo),
    ("Rows that a language model makes", "data.generated.", Generated),
    ("Rows that patterns find in text", "data.mine.", Mine),
    ("Which weights are reported: protocol=final or select", "protocol.", Protocol),
    ("Pretrained encoder: model=NAME", "model.", Model),
    ("Optimizer: optimizer=adamw or adamw_nobc", "optimizer.", AdamWOptions),
    ("Optimizer: optimizer=super_adam", "optimizer.", SuperAdamOptions),
    ("Starting from another run", "start.", Start),
    ("Controls of a chain, stages=[A,B]", "control.", Control),
    ("Time and memory", "speed.", Speed),
    ("Going on after a kill", "checkpoint.", Checkpoint),
)
WIDTH, INDENT = 100, 28


def short_help() -> int:
    """Print what can be typed, in a dozen lines."""
    _print(_short())
    return 0


def long_help() -> int:
    """Print every command, key, method and task."""
    _print(_long())
    return 0


def described(part: type[BaseModel]) -> dict[str, str]:
    """Return what the schema says of each key of a part: the text below its field."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(part))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = isinstance(below, ast.Expr) and ast.literal_eval(below.value)
            if isinstance(text, str):
                texts[field.target.id] = " ".join(text.split())
    return texts


def _short() -> Iterator[str]:
    run = program()
    yield f"{run} method=bitfit task=sst2     fine-tune and score: one run, one record in runs/"
    yield f"{run} -m method=full,lora task=rte,cola seed=1,2,3     a run of each"
    yield f"{run} board=low1k plan=true       the runs of a board, and where they stand"
    yield f"{run} results --split             tables of the records"
    yield ""
    for word, (about, _) in WORDS.items():
        yield f"{run} {word:9} {about}"
    yield f"{run} --help    every key"


def _long() -> Iterator[str]:
    run = program()
    yield from _short()
    for heading, prefix, part in GROUPS:
        yield f"\n{heading}"
        for key, text in described(part).items():
            yield from _line(f"{prefix}{key}=", text)
    yield "\nFiles that a key chooses"
    for group in sorted(p for p in CONFIGS.iterdir() if p.is_dir()):
        if group.name not in ("method", "task"):
            names = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            yield from _line(f"{group.name}=", names)
    yield "\nMethods: method=NAME or 'method=[NAME,NAME]'; options: method.NAME.KEY=VALUE"
    for name, text in method_lines().items():
        yield from _line(name, text)
    yield "\nTasks: task=NAME"
    for name, text in shipped_tasks().items():
        yield from _line(name, text)
    yield f"\n{run} --hydra-help lists Hydra's own options."
    yield f"{run} --cfg job KEY=VALUE… shows what a command means, and runs nothing."


def _line(name: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(text, WIDTH - INDENT) or [""]
    begin = f"  {name}"
    if len(begin) >= INDENT:
        yield begin
        begin = ""
    yield f"{begin:{INDENT}}{lines[0]}"
    yield from (" " * INDENT + line for line in lines[1:])


def _print(lines: Iterator[str]) -> None:
    print("\n".join(map(printable_lines, lines)))


def printable_lines(text: str) -> str:
    """Return a text of several lines without what would act on a terminal."""
    return "\n".join(map(printable, text.split("\n")))
