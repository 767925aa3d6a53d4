#!/usr/bin/env bash
# huggingface_hub 2.4.0 with hf_xet 1.8.0: create_commit(create_pr=True) asks for Xet's write token of a revision called "None"
# (/xet-write-token/None?create_pr=1), not of main, and hf_xet then tries two routes that older stores do not have:
# /v1/xorb-grants/… before it uploads a xorb and /v2/shards before /v1/shards. A 404 on each makes it go on with the older one,
# silently; the SHA-256 in a shard stands as four numbers of 64 bits with the low byte first, the same for hashes in paths.
# So a stand-in for the Hub that knows branches, or a proxy that allows known routes only, breaks uploads of pull requests.
#
# Seen: GET /api/datasets/o/n/xet-write-token/None?create_pr=1
#       GET /v1/chunks/default/…   POST /v1/xorb-grants/default/…   POST /v1/xorbs/default/…   POST /v2/shards   POST /v1/shards
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q huggingface_hub==2.4.0 hf_xet==1.8.0
cat > "$folder/finding.py" <<'PY'
import hashlib, http.server, json, os, re, threading, time

os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HOME=os.path.dirname(os.path.abspath(__file__)))
asked, shards = [], []


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path
        status, answer = 404, {}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            status, answer = 200, {"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in files]}
        elif "/xet-write-token/" in path:
            asked.append((self.command, path))
            status, answer = 200, {"accessToken": "x", "exp": int(time.time()) + 600, "casUrl": f"http://127.0.0.1:{server.server_port}"}
        elif re.match(r"/v\d/", path):
            asked.append((self.command, re.sub("[0-9a-f]{64}", "…", path)))
            if path.startswith("/v1/xorbs/"): status, answer = 200, {"was_inserted": True}
            if path == "/v1/shards":
                shards.append(body)
                status, answer = 200, {"result": 1}
        elif "/commit/" in path:
            status, answer = 200, {"commitOid": "0" * 40, "commitUrl": f"http://127.0.0.1:{server.server_port}/datasets/o/n/commit/{'0' * 40}",
                                   "pullRequestUrl": f"http://127.0.0.1:{server.server_port}/datasets/o/n/discussions/1"}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = serve


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
from huggingface_hub import CommitOperationAdd, HfApi

content = bytes(range(256)) * 40
HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_x").create_commit(
    "o/n", repo_type="dataset", commit_message="m", create_pr=True, operations=[CommitOperationAdd("a.bin", content)])
for line in asked: print(*line)
assert ("GET", "/api/datasets/o/n/xet-write-token/None?create_pr=1") in asked
store = [line for line in asked if "token" not in line[1]]
order = ["/v1/xorb-grants/default/…", "/v1/xorbs/default/…", "/v2/shards", "/v1/shards"]
assert [path for _, path in store if path in order] == order, store
digest = hashlib.sha256(content).digest()
assert digest not in shards[0] and b"".join(digest[i:i + 8][::-1] for i in range(0, 32, 8)) in shards[0]
print("as described")
PY
"$folder/venv/bin/python" "$folder/finding.py"
