"""A scripted Grafana: keeps what it is sent, and holds each request to Grafana's own contract."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from tests.servers import Request, Response

Json = dict[str, Any]
TOKEN = "glsa_s3cret"  # noqa: S105  the token of the scripted server


@dataclass
class Grafana:
    """The state of the server; `play` answers instead of it, once for each entry, when it is due.

    `contract` is the OpenAPI description that requests must follow, to the letter.
    """

    contract: Json
    folders: dict[str, Json] = field(default_factory=dict)
    datasources: dict[str, Json] = field(default_factory=dict)
    dashboards: dict[str, Json] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    play: list[tuple[str, Callable[[], Response]]] = field(default_factory=list)

    @staticmethod
    def load(shared: Path) -> "Grafana":
        """Return an empty Grafana."""
        path = shared / "contracts" / "grafana" / "openapi-subset.json"
        return Grafana(json.loads(path.read_text()))

    def answer(self, request: Request) -> Response:
        """Answer as Grafana does."""
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.path.startswith("/api/")
        path = request.path.removeprefix("/api")
        body = self._checked(request.method, path, request.body)
        call = f"{request.method} {path}"
        for position, (pattern, response) in enumerate(self.play):
            if re.fullmatch(pattern, call):
                del self.play[position]
                return response()
        if request.method != "GET":
            self.writes.append(call)
        status, answer = self._handle(request.method, path.strip("/").split("/"), body)
        return Response(status, json.dumps(answer).encode())

    def _checked(self, method: str, path: str, body: bytes) -> Json:
        """Check that the operation exists and its body is valid, unknown fields refused."""
        for template, operations in self.contract["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[A-Za-z0-9_-]{1,40}", template), path):
                operation = operations.get(method.lower())
                if operation is not None:
                    break
        else:
            raise AssertionError(f"Grafana has no {method} {path}")
        if method == "GET":
            assert not body
            return {}
        sent: Json = json.loads(body)
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = self.contract["components"]["schemas"][reference.rsplit("/", 1)[1]]
        jsonschema.validate(
            sent,
            {**schema, "additionalProperties": False, "components": self.contract["components"]},
            jsonschema.Draft7Validator,
        )
        return sent

    def _handle(self, method: str, parts: list[str], body: Json) -> tuple[int, Json]:
        match method, parts:
            case "GET", ["folders", uid]:
                return self._found(self.folders, uid)
            case "GET", ["dashboards", "uid", uid]:
                return self._found(self.dashboards, uid)
            case "GET", ["datasources", "uid", uid]:
                status, found = self._found(self.datasources, uid)
                secrets = found.pop("secureJsonData", {})
                return status, {**found, "secureJsonFields": dict.fromkeys(secrets, True)}
            case _:
                return self._change(method, parts, body)

    def _change(self, method: str, parts: list[str], body: Json) -> tuple[int, Json]:
        match method, parts:
            case ("POST", ["folders"]) | ("PUT", ["folders", _]):
                uid = body.get("uid", parts[-1])
                self.folders[uid] = {"uid": uid, "title": body["title"], "version": 1}
                return 200, self.folders[uid]
            case "POST", ["datasources"]:
                if body["uid"] in self.datasources:
                    return 409, {"message": "data source with the same name already exists"}
                self.datasources[body["uid"]] = {**body, "id": 1, "version": 1, "orgId": 1}
                return 200, {"id": 1, "message": "Datasource added", "name": body["name"]}
            case "PUT", ["datasources", "uid", uid]:
                return self._put_datasource(uid, body)
            case "POST", ["dashboards", "db"]:
                return self._save(body)
            case _:
                raise AssertionError(f"unexpected {method} {parts}")

    @staticmethod
    def _found(objects: dict[str, Json], uid: str) -> tuple[int, Json]:
        if uid not in objects:
            return 404, {"message": "not found"}
        return 200, json.loads(json.dumps(objects[uid]))

    def _put_datasource(self, uid: str, body: Json) -> tuple[int, Json]:
        before = self.datasources[uid]
        if body.get("version", before["version"]) != before["version"]:
            return 409, {"message": "Datasource has already been updated by someone else"}
        kept = {key: before[key] for key in ("id", "orgId", "secureJsonData") if key in before}
        self.datasources[uid] = {**kept, **body, "version": before["version"] + 1}
        return 200, {"id": 1, "message": "Datasource updated", "name": body["name"]}

    def _save(self, body: Json) -> tuple[int, Json]:
        sent = body["dashboard"]
        uid = sent["uid"]
        assert sent["id"] is None
        assert body["folderUid"] in self.folders
        before = self.dashboards.get(uid)
        version = 0 if before is None else before["dashboard"]["version"]
        if sent.get("version", 0) != version:
            return 412, {"status": "version-mismatch", "message": "changed by someone else"}
        stored = {**sent, "id": 7, "version": version + 1, "schemaVersion": 42}  # migrated
        meta = {"provisioned": False, "folderUid": body["folderUid"]}
        self.dashboards[uid] = {"dashboard": stored, "meta": meta}
        return 200, {"status": "success", "uid": uid, "version": version + 1, "id": 7}
