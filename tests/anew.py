"""Commands in a fresh process: one for all of them, as its imports take most of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT, Outcome

# Each command writes to files of its own, whatever prints.
_DRIVER = """
import json, os, sys
from runners.command import main
from tests.composing import remember_compositions
remember_compositions()
folder, commands = sys.argv[1], json.loads(sys.argv[2])
for number, arguments in enumerate(commands):
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(f"{folder}/{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    sys.argv = ["run.py", *arguments]
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    with open(f"{folder}/{number}.code", "w") as file:
        file.write(str(code))
"""


def anew(
    commands: Sequence[Sequence[str]],
    tmp_path: Path,
    env: dict[str, str] | None = None,
    **more: str,
) -> list[Outcome]:
    """Do what run.py would for each command, one after the other, in one new process.

    Its environment is `env`, else this process's, with `more` added.
    """
    folder = tmp_path / "anew"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(folder), json.dumps([list(c) for c in commands])],
        cwd=ROOT,
        env={**(os.environ if env is None else env), **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        Outcome(
            int((folder / f"{number}.code").read_text()),
            (folder / f"{number}.out").read_text(),
            (folder / f"{number}.err").read_text(),
        )
        for number in range(len(commands))
    ]
