"""A stand-in for the Hugging Face Hub on the loopback interface: repositories in memory, the routes that a client uses."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub:
    """As a context: a server; `url` is what HF_ENDPOINT takes, `files` {repository: {path: bytes}}."""

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, body=b"", status=200, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def json(self, value, status=200, **headers):
                self.answer(json.dumps(value).encode(), status, **headers)

            def missing(self):
                self.json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/api/repos/create":
                    order = json.loads(body)
                    repo = "/".join(filter(None, (order.get("organization"), order["name"])))
                    hub.files.setdefault(repo, {})
                    hub.private[repo] = order.get("private") is True or order.get("visibility") == "private"
                    self.json({"url": f"{hub.url}/{repo}", "name": repo, "id": repo})
                elif self.path == "/api/validate-yaml":
                    self.json({"errors": [], "warnings": []})
                elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
                    paths = [file["path"] for file in json.loads(body)["files"]]
                    self.json(
                        {
                            "files": [
                                {"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for p in paths
                            ]
                        }
                    )
                elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
                    for line in body.splitlines():
                        order = json.loads(line)
                        if order["key"] == "file":
                            content = base64.b64decode(order["value"]["content"])
                            hub.files[match[1]][order["value"]["path"]] = content
                    oid = hub.commit(match[1])
                    self.json({"success": True, "commitUrl": f"{hub.url}/{match[1]}/commit/{oid}", "commitOid": oid})
                else:
                    self.missing()

            def do_GET(self):
                path = self.path.split("?")[0]
                if match := re.fullmatch(r"/api/models/(.+)/tree/[^/]+", path):
                    files = hub.files.get(match[1], {})
                    return self.json(
                        [
                            {
                                "type": "file",
                                "path": name,
                                "size": len(content),
                                "oid": hashlib.sha1(content).hexdigest(),
                            }
                            for name, content in files.items()
                        ]
                    )
                if match := re.fullmatch(r"/api/models/(.+?)(/revision/[^/]+)?", path):
                    repo = match[1]
                    if repo not in hub.files:
                        return self.missing()
                    siblings = [{"rfilename": name} for name in hub.files[repo]]
                    return self.json({"id": repo, "modelId": repo, "sha": hub.commit(repo), "siblings": siblings,
                                      "private": hub.private[repo], "tags": [], "downloads": 0, "likes": 0})  # fmt: skip
                if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                    content = hub.files.get(match[1], {}).get(match[3])
                    if content is None:
                        return self.missing()
                    etag = hashlib.sha1(content).hexdigest()
                    return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=hub.commit(match[1]))
                return self.missing()

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def commit(self, repo: str) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.files[repo].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def __enter__(self):
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
