"""An engine in Python without a model: SGLang's /health and /generate, and for every token a decode step on the stand-ins of
fakes/. What `collect --capture recorder` meets.   python_engine.py PORT"""
import http.server
import json
import sys
import threading

import recorder_scenario as scenario
from flashinfer import decode
from torch import empty

lock = threading.Lock()
wrapper = decode.BatchDecodeWithPagedKVCacheWrapper(empty(64))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, body, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = len(request.get("text", "").split()) or len(request.get("input_ids", []))
        count = request["sampling_params"].get("max_new_tokens", 4)
        events = []
        for token in range(1, count + 1):
            with lock:
                scenario.step(wrapper, [prompt + token], layers=2)
            events.append({"text": "t" * token, "meta_info": {"prompt_tokens": prompt, "completion_tokens": token,
                                                            "finish_reason": {"type": "length"} if token == count else None}})
        self.answer(b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events) + b"data: [DONE]\n\n", "text/event-stream")


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
