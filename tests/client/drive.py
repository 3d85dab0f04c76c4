"""A client that knows the two APIs by their committed OpenAPI documents and by nothing else.

Every call names an operation of a document; every answer is held against the schema that the
document gives for it. Only the standard library is used.

usage: drive.py SCHEMA_DIR SERVER_SOCKET DAEMON_SOCKET REPOSITORY
"""

import http.client
import json
import pathlib
import re
import socket
import sys
import time

PATIENCE = 60


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """One API: its document, and where it listens."""

    def __init__(self, document, path):
        self.document = json.loads(pathlib.Path(document).read_text())
        self.path = path
        self.called = set()

    def operation(self, method, path):
        bare = path.split("?")[0]
        for template, item in self.document["paths"].items():
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            if re.fullmatch(pattern, bare) and method.lower() in item:
                described = {p["name"] for p in item.get("parameters", []) if p["in"] == "path"}
                assert described == set(re.findall(r"\{([^}]+)\}", template)), template
                self.called.add((method, template))
                return item[method.lower()]
        raise AssertionError(f"{method} {bare} is in no document")

    def call(self, method, path, body=None, headers=None):
        operation = self.operation(method, path)
        if body is not None:
            content = operation["requestBody"]["content"]["application/json"]
            self.check(body, content["schema"], f"request of {method} {path}")
        connection = UnixConnection(self.path)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        found = json.loads(raw) if raw else None
        said = operation["responses"].get(str(answer.status), operation["responses"].get("default"))
        assert said is not None, f"{method} {path} answers {answer.status}, which is not described"
        for content in said.get("content", {}).values():
            self.check(found, content["schema"], f"answer of {method} {path}")
        return answer.status, found

    def ok(self, method, path, body=None, headers=None):
        status, found = self.call(method, path, body, headers)
        assert 200 <= status < 300, f"{method} {path}: {status} {found}"
        return found

    def refused(self, code, method, path, body=None):
        status, found = self.call(method, path, body)
        assert status >= 400 and found["code"] == code, f"{method} {path}: {status} {found}"
        assert found["hint"], "a refusal names the next step"

    def check(self, value, schema, where):
        """Whether a value is as a schema says; the part of JSON Schema that the documents use."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return self.check(value, self.document["components"]["schemas"][name], where)
        for part in schema.get("allOf", []):
            self.check(value, part, where)
        if "oneOf" in schema or "anyOf" in schema:
            errors = []
            for part in schema.get("oneOf", schema.get("anyOf")):
                try:
                    return self.check(value, part, where)
                except AssertionError as error:
                    errors.append(str(error))
            raise AssertionError(f"{where}: {errors}")
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        python = {
            "object": dict, "array": list, "string": str, "boolean": bool,
            "integer": int, "number": (int, float), "null": type(None),
        }
        if kinds:
            fits = any(isinstance(value, python[kind]) for kind in kinds)
            fits &= not (isinstance(value, bool) and "boolean" not in kinds)
            assert fits, f"{where}: {value!r} is not {kinds}"
        if isinstance(value, dict):
            for name in schema.get("required", []):
                assert name in value, f"{where}: {name} is missing"
            for name, part in schema.get("properties", {}).items():
                if name in value:
                    self.check(value[name], part, f"{where}.{name}")
        if isinstance(value, list) and isinstance(schema.get("items"), dict):
            for item in value:
                self.check(item, schema["items"], f"{where}[]")


def wait_for(what, condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"waited too long for {what}"
        time.sleep(0.02)


def drive(server, daemon, repository):
    host = "/v1/hosts/box"
    wait_for("the session", lambda: server.ok("GET", host)["connected"])
    assert any(h["id"] == "box" for h in server.ok("GET", "/v1/hosts"))

    made = server.ok("POST", f"{host}/environments?wait=60", {"id": "demo", "repo": repository})
    assert made["status"] == 200, made
    assert server.ok("GET", f"/v1/operations/{made['id']}")["status"] == 200
    demo = f"{host}/environments/demo"
    row = server.ok("GET", demo)
    assert row["status"] == "ready" and row["path"], row
    assert [r["id"] for r in server.ok("GET", f"{host}/environments")] == ["demo"]

    # The same environment by the daemon's own API.
    local = "/v1/environments/demo"
    assert daemon.ok("GET", local)["path"] == row["path"]
    pathlib.Path(row["path"], "new.txt").write_text("one\n")
    assert server.ok("GET", f"{demo}/status")["untracked"] == 1
    assert daemon.ok("GET", f"{local}/status")["changes"] == "?1"
    server.ok("GET", f"{demo}/diff")
    daemon.ok("GET", f"{local}/diff")

    thread = {"id": "t1", "kind": "terminal", "holder": "client"}
    server.ok("POST", f"{demo}/threads", thread)
    wait_for("the lease", lambda: daemon.ok("GET", local)["leases"])
    assert len(server.ok("GET", f"{demo}/threads")) == 1
    key = {"idempotency-key": "from-the-client"}
    run = {"argv": ["sh", "-c", "echo $GROUNDSKEEPER_ENV"], "thread": "t1"}
    first = server.ok("POST", f"{demo}/exec?wait=30", run, key)
    again = server.ok("POST", f"{demo}/exec?wait=30", run, key)
    assert first["answer"]["stdout"] == "demo\n" and again["id"] == first["id"], (first, again)
    server.refused("environment_busy", "DELETE", demo)
    server.refused("thread_not_found", "DELETE", f"{host}/threads/nobody")
    server.ok("DELETE", f"{host}/threads/t1")
    wait_for("the release", lambda: not daemon.ok("GET", local)["leases"])

    refused = server.ok("DELETE", f"{demo}?wait=30")
    assert refused["answer"]["code"] == "unsafe_to_remove", refused
    gone = server.ok("DELETE", f"{demo}?wait=30&force=true")
    assert gone["answer"]["phase"] == "tombstoned", gone
    daemon.refused("environment_destroyed", "GET", local)
    server.refused("environment_destroyed", "GET", f"{demo}/status")
    back = server.ok("POST", f"{demo}/restore?wait=30")
    assert back["status"] == 200, back
    assert pathlib.Path(row["path"], "new.txt").read_text() == "one\n"
    assert server.ok("POST", f"{demo}/retire", {"seconds": 3600})["status"] == "retiring"
    assert server.ok("DELETE", f"{demo}/retire")["status"] == "ready"

    # A live set by hand: older than the server's it says nothing.
    report = daemon.ok("POST", "/v1/reconcile", {"server": "client", "epoch": 1, "live": ["demo"]})
    assert report["retired"] == [] and not report["held"], report
    info = daemon.ok("GET", "/v1/daemon")
    assert info["session"]["stage"] == "open", info
    server.ok("DELETE", f"{demo}?wait=30&force=true")
    server.refused("host_not_found", "GET", "/v1/hosts/nobody")


def main():
    schema, server_socket, daemon_socket, repository = sys.argv[1:]
    server = Api(f"{schema}/openapi-server.json", server_socket)
    daemon = Api(f"{schema}/openapi.json", daemon_socket)
    drive(server, daemon, repository)
    print(f"{len(server.called)} operations of the server, {len(daemon.called)} of the daemon")


if __name__ == "__main__":
    main()
