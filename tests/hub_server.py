"""A small stand-in for the hub on localhost: repositories are folders, each with one commit."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    root: Path
    log: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.log.append(f"POST {self.path}")
        path = urlsplit(self.path).path
        kind, repo, rest = self._repository(path.removeprefix("/api/"))
        if rest[:1] == ["paths-info"] and (folder := self._folder(kind, repo)):
            form = json.loads(body) if body.startswith("{") else parse_qs(body)
            wanted = form.get("paths", [])
            self._json([e for e in self._tree(folder) if e["path"] in wanted])
        else:
            self._missing()

    def _repository(self, path: str) -> tuple[str, str, list[str]]:
        parts = [p for p in unquote(path).split("/") if p]
        kind = "models"
        if parts and parts[0] in ("models", "datasets"):
            kind = parts.pop(0)
        return kind, "/".join(parts[:2]), parts[2:]

    def _folder(self, kind: str, repo: str) -> Path | None:
        folder = self.root / kind / repo
        return folder if folder.is_dir() else None

    def _tree(self, folder: Path) -> list[dict[str, object]]:
        entries = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            content = path.read_bytes()
            entry: dict[str, object] = {
                "type": "file",
                "path": path.relative_to(folder).as_posix(),
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            entries.append(entry)
        return entries

    def _list(self, under: str, folder: Path) -> None:
        prefix = f"{under}/" if under else ""
        below = [e for e in self._tree(folder) if str(e["path"]).startswith(prefix)]
        query = parse_qs(urlsplit(self.path).query)
        if query.get("recursive", ["false"])[0].lower() != "true":
            inner = {str(e["path"])[len(prefix) :].partition("/") for e in below}
            folders = sorted({head for head, slash, _ in inner if slash})
            below = [e for e in below if "/" not in str(e["path"])[len(prefix) :]]
            below += [
                {"type": "directory", "path": prefix + f, "oid": "0" * 40, "size": 0}
                for f in folders
            ]
        self._json(below) if below else self._missing()

    def _answer(self, with_body: bool) -> None:
        self.log.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if path.startswith("/api/"):
            kind, repo, rest = self._repository(path.removeprefix("/api/"))
            folder = self._folder(kind, repo)
            if folder is None:
                self._missing()
            elif rest[:1] == ["tree"]:
                self._list("/".join(rest[2:]), folder)
            elif rest[:1] == ["discussions"]:
                self._json({"discussions": [], "count": 0, "start": 0})
            elif not rest or rest[0] == "revision":
                siblings = [{"rfilename": e["path"]} for e in self._tree(folder)]
                facts = {
                    "id": repo,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "private": False,
                    "tags": [],
                }
                self._json({**facts, "gated": False, "disabled": False, "downloads": 0, "likes": 0})
            else:
                self._missing()
            return
        kind, repo, rest = self._repository(path)
        folder = self._folder(kind, repo)
        if folder is None or rest[:1] != ["resolve"] or not (folder / "/".join(rest[2:])).is_file():
            self._missing()
            return
        content = (folder / "/".join(rest[2:])).read_bytes()
        first, last = 0, len(content) - 1
        if wanted := self.headers.get("Range"):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end) if end else last, last)
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if with_body:
            self.wfile.write(content[first : last + 1])

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header(
            "X-Error-Code", "EntryNotFound" if "resolve" in self.path else "RepoNotFound"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve root/models and root/datasets; yield the address and the log of requests."""
    log: list[str] = []
    handler = type("Handler", (_Handler,), {"root": root, "log": log})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        server.server_close()
