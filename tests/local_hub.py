"""A model hub on this machine, as huggingface_hub calls it: repositories, commits, large files, and faults on demand.

Written after the client's own source (huggingface_hub 2.4): `POST /api/repos/create`, `GET /api/models/...`, `POST .../preupload`,
the LFS batch and its PUT, `POST .../commit` (NDJSON), `HEAD` and `GET .../resolve/...` with ETag, X-Repo-Commit and ranges.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN, READ_TOKEN = "hf_aTokenThatMayWrite0123456789", "hf_aTokenThatMayRead00123456789"
LFS_FROM_BYTES = 5_000


@dataclass
class Repo:
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)  # oid, files

    def __post_init__(self) -> None:
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"})

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def commit(self, files: dict[str, bytes]) -> str:
        listed = sorted((name, hashlib.sha1(content).hexdigest()) for name, content in files.items())
        oid = hashlib.sha1(json.dumps([len(self.commits), listed]).encode()).hexdigest()
        self.commits.append((oid, files))
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class LocalHub:
    """`repos` by "owner/name". `faults` maps "METHOD pattern" to an HTTP status, "cut" or "cut once": half a body, or no answer."""

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, files: dict[str, bytes], *, private: bool = False) -> str:
        made = self.repos.setdefault(repo, Repo(private=private))
        return made.commit(made.files | files)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        key = next((key for key in self.hub.faults if re.fullmatch(key, f"{self.command} {path}")), "")
        fault = self.hub.faults.get(key)
        if fault == "cut once":
            fault = "cut"
            del self.hub.faults[key]
        if isinstance(fault, int):
            self._json({"error": self.hub.said or "on purpose"}, status=fault)
        elif fault == "cut" and self.command != "GET":
            self.close_connection = True
        else:
            for pattern, answer in ROUTES:
                method, _, rest = pattern.partition(" ")
                if method == self.command and (found := re.fullmatch(rest, path)):
                    answer(self, body, fault, *found.groups())
                    return
            self._json({"error": f"no route for {self.command} {path}"}, status=404)

    def _json(self, values: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._bytes(json.dumps(values).encode(), status=status, headers={"Content-Type": "application/json", **(headers or {})})

    def _bytes(
        self, content: bytes, *, status: int = 200, headers: dict[str, str] | None = None, sent: bytes | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if sent is None else sent)
        if sent is not None:
            self.close_connection = True

    def _may(self, write: bool) -> bool:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, READ_TOKEN):
            self._json({"error": "Invalid username or password."}, status=401)
            return False
        if write and token != TOKEN:
            self._json({"error": "You don't have the rights to write"}, status=403)
            return False
        return True

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        hidden = repo is not None and repo.private and "Authorization" not in self.headers
        if repo is None or hidden:
            self._json({"error": "Repository not found"}, status=401 if hidden else 404, headers={"X-Error-Code": "RepoNotFound"})
            return None
        return repo

    # ---- routes

    def create(self, body: bytes, fault: Any) -> None:
        if self._may(write=True):
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}"
            if name in self.hub.repos:
                self._json({"error": "You already created this model repo"}, status=409)
                return
            self.hub.repos[name] = Repo(private=values.get("visibility") == "private" or values.get("private") is True)
            self._json({"url": f"{self.hub.url}/{name}"})

    def info(self, body: bytes, fault: Any, name: str, revision: str | None = None) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        commit = repo.at(revision or "main")
        if commit is None:
            self._json({"error": "Invalid rev id"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": each} for each in sorted(commit[1])]
        self._json({"id": name, "modelId": name, "sha": commit[0], "private": repo.private, "siblings": siblings, "tags": []})

    def validate(self, body: bytes, fault: Any) -> None:
        import yaml

        card = json.loads(body)["content"]
        values = yaml.safe_load(card.partition("---\n")[2].partition("\n---\n")[0])
        errors = [] if isinstance(values, dict) and "tags" in values else [{"message": "no metadata"}]
        self._json({"errors": errors, "warnings": []}, status=400 if errors else 200)

    def preupload(self, body: bytes, fault: Any, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is None or not self._may(write=True):
            return
        listed = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["size"] >= LFS_FROM_BYTES else "regular",
                "shouldIgnore": False,
                "oid": _oid(repo.files[each["path"]]) if each["path"] in repo.files else None,
            }
            for each in json.loads(body)["files"]
        ]
        self._json({"files": listed})

    def batch(self, body: bytes, fault: Any, name: str) -> None:
        if self._may(write=True):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/store/{each['oid']}", "header": {}}}}
                if each["oid"] not in self.hub.stored
                else each
                for each in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, fault: Any, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.stored[oid] = body
        self._json({})

    def commit(self, body: bytes, fault: Any, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is None or not self._may(write=True):
            return
        files = dict(repo.files)
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit", repo.head) != repo.head:
                self._json({"error": "A commit has happened since"}, status=412)
                return
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def resolve(self, body: bytes, fault: Any, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        commit = repo.at(revision)
        if commit is None or path not in commit[1]:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            self._json({"error": "not found"}, status=404, headers={"X-Error-Code": code})
            return
        content = commit[1][path]
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit[0], "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._bytes(content[start:], status=206, headers=headers)
            return
        sent = content[: len(content) // 2] if fault == "cut" else None
        self._bytes(content, headers=headers, sent=sent)


def _oid(content: bytes) -> str:
    """git's name of a blob, or the SHA-256 of a large file."""
    if len(content) >= LFS_FROM_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = "([^/]+/[^/]+)"
ROUTES = (
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (f"GET /api/models/{_NAME}/revision/(.+)", _Handler.info),
    (f"GET /api/models/{_NAME}", _Handler.info),
    (f"POST /api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    (f"POST /api/models/{_NAME}/commit/(.+)", _Handler.commit),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT /store/([0-9a-f]{64})", _Handler.store),
    (f"HEAD /{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (f"GET /{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
)


@contextmanager
def serving() -> Iterator[LocalHub]:
    """A hub at a free port, for as long as the context lasts."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that goes away
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
