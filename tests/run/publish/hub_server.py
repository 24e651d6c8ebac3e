"""A server on the loopback that speaks the part of the Hub's interface that publishing and timm's loading use.

It is no Hub: repositories are files in memory, one branch, one commit a push. Large files come by git-lfs's batch
interface, as they do on the Hub where its own storage client is switched off.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import LoopbackServer

SHA = "a" * 40  # of the one commit that downloads are told of
TOKEN = "hf_of_a_test"


@dataclass
class Repository:
    """What one holds."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@dataclass
class Hub(LoopbackServer):
    """The server.

    Attributes:
        repositories: by name.
        blobs: uploaded large files by SHA-256.
        seen: method and path of every request.
    """

    protocol = "HTTP/1.1"
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        path = handler.path.split("?")[0].strip("/")
        self.seen.append(f"{handler.command} {path}")
        allowed = handler.headers.get("authorization") == f"Bearer {TOKEN}" or path.startswith("blob/")
        status, headers, content = (
            self._answer(handler.command, path, body)
            if allowed
            else (401, {}, json.dumps({"error": "Invalid username or password."}).encode())
        )
        with suppress(ConnectionError):
            handler.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(content)

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = path.split("/")
        if path == "api/repos/create":
            return self._create(json.loads(body))
        if path == "api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return _plain({"errors": [], "warnings": []})
        if method == "PUT" and parts[0] == "blob":
            self.blobs[parts[1]] = body
            return 200, {}, b""
        if path.endswith(".git/info/lfs/objects/batch"):
            return _plain({"objects": [self._upload(one) for one in json.loads(body)["objects"]]})
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.repositories:
            return 404, {"x-error-code": "RepoNotFound"}, b"{}"
        own = self.repositories[name]
        match parts[4:] if parts[0] == "api" else parts[2:]:
            case ["preupload", "main"]:
                modes = {one["path"]: _mode(one["path"]) for one in json.loads(body)["files"]}
                told = [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]
                return _plain({"files": told})
            case ["commit", "main"]:
                self._commit(own, [json.loads(line) for line in body.splitlines()])
                return _plain({"commitUrl": f"{self.url}/{name}/commit/{SHA}", "commitOid": SHA, "success": True})
            case ["revision", "main"] | []:
                files = [{"rfilename": file} for file in own.files]
                return _plain({"id": name, "sha": SHA, "private": own.private, "siblings": files, "tags": []})
            case ["tree", "main"]:
                sizes = {file: len(content) for file, content in own.files.items()}
                return _plain([{"type": "file", "path": f, "oid": SHA, "size": size} for f, size in sizes.items()])
            case ["resolve", _, *file] if "/".join(file) in own.files:
                content = own.files["/".join(file)]
                digest = hashlib.sha256(content).hexdigest()
                return 200, {"etag": f'"{digest}"', "x-repo-commit": SHA}, content
            case ["resolve", *_]:
                return 404, {"x-error-code": "EntryNotFound", "x-repo-commit": SHA}, b""
        raise AssertionError(f"{method} {path} is no request that publishing or loading should send")

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = f"{asked['organization']}/{asked['name']}"
        told = {"url": f"{self.url}/{name}", "name": name}
        if name in self.repositories:
            return 409, {}, json.dumps({"error": "You already created this model repo", **told}).encode()
        private = asked.get("private") or asked.get("visibility") == "private"
        self.repositories[name] = Repository(private=bool(private))
        return _plain(told)

    def _upload(self, one: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.url}/blob/{one['oid']}"
        return {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": href, "header": {}}}}

    def _commit(self, own: Repository, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    own.messages.append(value["summary"])
                case "file":
                    own.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    content = self.blobs[value["oid"]]
                    assert hashlib.sha256(content).hexdigest() == value["oid"]
                    own.files[value["path"]] = content
                case "deletedFile":
                    del own.files[value["path"]]


def _mode(name: str) -> str:
    return "lfs" if name.endswith(".safetensors") else "regular"


def _plain(content: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-type": "application/json"}, json.dumps(content).encode()
