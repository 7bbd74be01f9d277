"""A stand-in for the Hugging Face hub: it answers what huggingface_hub asks to upload files to a model, and no more.

After the hub's API (https://huggingface.co/docs/hub/api) and, for large files, the batch API of Git LFS.
"""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Repositories by name, and the headers of every request."""

    def __init__(self, token):
        self.token = token
        self.repositories = {}  # name -> {"private": bool, "files": {name: bytes}}
        self.large, self.seen = {}, []
        self.refuses = False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, verb, path, headers, body):
        """(status, answer) of a request."""
        self.seen.append((verb, path, headers.get("Authorization")))
        if path.startswith("/large/"):  # storage is another service: its addresses are signed, and it gets no token
            digest = path.removeprefix("/large/")
            assert hashlib.sha256(body).hexdigest() == digest
            self.large[digest] = body
            return 200, {}
        if self.refuses or headers.get("Authorization") != f"Bearer {self.token}":
            return 403, {"error": f"not allowed: {headers.get('Authorization')}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories[name] = {"private": asked["visibility"] == "private", "files": {}}
            return 200, {"url": f"{self.address}/{name}", "name": name}
        name = "/".join(path.removeprefix("/api/models").split("/")[1:3]).removesuffix(".git")
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        return 200, self._about(name, path, body)

    def _about(self, name, path, body):
        here = self.repositories[name]
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            modes = [(one["path"], "lfs" if one["path"].endswith(".safetensors") else "regular") for one in asked]
            return {"files": [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes]}
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            places = {one["oid"]: {"upload": {"href": f"{self.address}/large/{one['oid']}"}} for one in asked}
            return {"transfer": "basic", "objects": [one | {"actions": places[one["oid"]]} for one in asked]}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    here["files"][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    here["files"][value["path"]] = self.large[value["oid"]]
            return {"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.address}/{name}/commit/{'c' * 40}"}
        return {"id": name, "private": here["private"], "siblings": [{"rfilename": file} for file in here["files"]]}


@contextlib.contextmanager
def hub(token):
    """Serve a Hub within the block."""
    one = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(iter(self.chunk, b""))
            status, answer = one.answer(self.command, self.path.partition("?")[0], self.headers, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def chunk(self):
            size = int(self.rfile.readline(), 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            return data

        def log_message(self, *_):
            pass

        do_GET = do_POST = do_PUT = respond  # noqa: N815

    one.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=one.server.serve_forever)
    thread.start()
    try:
        yield one
    finally:
        one.server.shutdown()
        thread.join()
        one.server.server_close()
