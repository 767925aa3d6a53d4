"""What drive and collect send of a file of prompts, seen from the server's side: each record's text, history, lengths and sampling; what is
not sent is said."""
import collections
import http.server
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import unittest
from pathlib import Path

from support import BINARY

DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
DATA = Path(__file__).resolve().parent.parent / "data"


class Server:
    """Notes every request. `routes`: of those that it has; `streams`: or it answers by one object; `key`: that it wants."""

    def __init__(self, routes=("/health", "/generate", "/v1/completions", "/v1/chat/completions", "/v1/models"), streams=True, key=None, answers_any_get=False):
        server = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def answer(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def refuses(self):
                if key is not None and self.headers.get("Authorization") != "Bearer " + key: return self.answer(401, b'{"error": "no key"}') or True
                if self.path not in routes: return self.answer(404, b'{"detail": "Not Found"}') or True
                return False

            def do_GET(self):
                if answers_any_get and self.path != "/v1/models": return self.answer(200, b"{}")
                if self.refuses(): return
                if self.path == "/generate": return self.answer(405, b"")
                self.answer(200, json.dumps({"data": [{"id": "the-model"}]}).encode() if self.path == "/v1/models" else b"{}")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.refuses(): return
                server.requests.append({"path": self.path, "body": body, "headers": dict(self.headers), "time": time.monotonic()})
                usage = {"prompt_tokens": 3, "completion_tokens": 2}
                if not streams:
                    return self.answer(200, json.dumps({"text": "x", "meta_info": usage, "error": None} if self.path == "/generate" else {"choices": [{"text": "x"}], "usage": usage}).encode())
                event = {"text": "x", "meta_info": usage} if self.path == "/generate" else {"choices": [{"text": "x"}], "usage": usage}
                self.answer(200, b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n", "text/event-stream")

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class TrafficTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="traffic-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.env = {**{k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}, "XDG_STATE_HOME": str(self.folder / "state")}

    def server(self, **options):
        server = Server(**options)
        self.addCleanup(server.close)
        return server

    def file(self, content, name="prompts.jsonl"):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else "".join(json.dumps(record) + "\n" for record in content))
        return path

    def drive(self, server, *flags, url=None, status=0, env=None, concurrency=1):
        """(report, what was sent, in the order of sending)"""
        del server.requests[:]
        result = subprocess.run([BINARY, "drive", "--url", url or server.url, "--concurrency", str(concurrency), "-q", "--json", *map(str, flags)], capture_output=True, text=True,
                                env={**self.env, **(env or {})}, timeout=120)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return (json.loads(result.stdout) if status == 0 else result.stderr), list(server.requests)

    def test_what_a_record_asks_for_is_sent(self):
        server = self.server()
        prompts = self.file([
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "Q1"}, {"type": "image_url", "image_url": {"url": "data:x"}}]},
                          {"role": "assistant", "content": "A1", "tool_calls": [{"id": "t"}]}, {"role": "tool", "tool_call_id": "t", "content": "42"}],
             "max_tokens": 300, "temperature": 0.7, "top_p": 0.9},
            {"body": {"model": "other", "messages": [{"role": "user", "content": "Q2"}], "max_completion_tokens": 50}},
            {"text": "Q3", "sampling_params": {"max_new_tokens": 7, "top_k": 4}}])
        report, sent = self.drive(server, "--prompts", prompts, "--endpoint", "chat")
        self.assertEqual(report["completed"], 3)
        self.assertEqual([r["path"] for r in sent], ["/v1/chat/completions"] * 3)
        first, second, third = (r["body"] for r in sent)
        self.assertEqual(first["messages"], [{"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1", "tool_calls": [{"id": "t"}]},
                                             {"role": "tool", "content": "42", "tool_call_id": "t"}])
        self.assertEqual((first["max_tokens"], first["temperature"], first["top_p"]), (300, 0.7, 0.9))
        self.assertEqual((second["max_tokens"], "temperature" in second, second["model"]), (50, False, "the-model"))
        self.assertEqual((third["max_tokens"], third["top_k"]), (7, 4))
        self.assertIn("1 × parts of type image_url not sent", report["note"])

        # SGLang's own API; a flag goes before what the file says.
        report, sent = self.drive(server, "--prompts", prompts, "--temperature", "0", "--output-tokens", "5")
        self.assertEqual([r["path"] for r in sent], ["/generate"] * 3)
        self.assertEqual(sent[0]["body"]["text"], "S\n\nQ1\n\nA1\n\n42")
        self.assertEqual(sent[0]["body"]["sampling_params"], {"temperature": 0.0, "top_p": 0.9, "ignore_eos": True, "max_new_tokens": 5})
        report, sent = self.drive(server, "--prompts", prompts, "--max-output-tokens", "100", "--no-ignore-eos")
        self.assertEqual([r["body"]["sampling_params"]["max_new_tokens"] for r in sent], [100, 50, 7])
        self.assertEqual(sent[0]["body"]["sampling_params"]["ignore_eos"], False)
        self.assertIn("1 answers are shorter than requested", report["note"])

    def test_all_files_of_a_folder(self):
        server = self.server()
        folder = self.folder / "prompts"
        folder.mkdir()
        (folder / "a.json").write_text('[{"prompt": "a"}]')
        (folder / "b.jsonl").write_text('{"prompt": "b"}\nbroken\n')
        (folder / "c.csv").write_text("prompt,x\nc,1\n")
        (folder / "._b.jsonl").write_bytes(b"\0\5\26\7")
        report, sent = self.drive(server, "--prompts", folder)
        self.assertEqual([r["body"]["text"] for r in sent], ["a", "b", "c"])
        self.assertEqual(report["note"], "1 record is not JSON and was skipped")

    def test_fewer_prompts_than_requests(self):
        server = self.server()
        prompts = self.file([{"prompt": f"q{i}", "output_tokens": 4} for i in range(5)])
        report, sent = self.drive(server, "--prompts", prompts)
        self.assertEqual((report["completed"], report["note"]), (5, ""))
        report, sent = self.drive(server, "--prompts", prompts, "--num-prompts", 12)
        self.assertEqual([r["body"]["text"] for r in sent], [f"q{i % 5}" for i in range(12)])
        self.assertEqual(report["note"], "5 prompts for 12 requests: they were sent again from the first")
        report, sent = self.drive(server, "--prompts", prompts, "--num-prompts", 3)
        self.assertEqual([r["body"]["text"] for r in sent], ["q0", "q1", "q2"])
        self.assertIn("there are more prompts than the 3", report["note"])

    def test_a_file_without_a_prompt(self):
        server = self.server()
        said, sent = self.drive(server, "--prompts", self.file([{"id": 1, "label": "x"}] * 3), status=1)
        self.assertIn("none of its 3 records is a prompt", " ".join(said.split()))
        self.assertIn('"id", "label"', said)
        self.assertEqual(sent, [])

    def test_random_prompts(self):
        server = self.server()
        report, sent = self.drive(server, "--random-prompts", "--num-prompts", 20, "--input-tokens", "40-60")
        lengths = [len(r["body"]["input_ids"]) for r in sent]
        self.assertTrue(all(40 <= length <= 60 for length in lengths) and len(set(lengths)) > 5, lengths)
        report, sent = self.drive(server, "--random-prompts", "--num-prompts", 3, "--input-tokens", "17", "--endpoint", "completions")
        self.assertEqual([len(r["body"]["prompt"]) for r in sent], [17] * 3)
        report, sent = self.drive(server, "--random-prompts", "--num-prompts", 3, "--input-tokens", "17", "--endpoint", "chat")
        self.assertEqual([len(r["body"]["messages"][0]["content"].split()) for r in sent], [17] * 3)
        self.assertIn("3 prompts of token ids were sent as words", report["note"])
        for wrong in ("0", "5-2", "many", "99999999999"):
            said, sent = self.drive(server, "--random-prompts", "--input-tokens", wrong, status=2)
            self.assertIn("--input-tokens", said)

    def test_arrivals_and_lengths_of_a_trace(self):
        server = self.server()
        prompts = self.file([{"timestamp": 5000 + 400 * i, "input_length": 600 + i, "output_length": 3 + i, "hash_ids": [7, i + 8]} for i in range(4)])
        report, sent = self.drive(server, "--prompts", prompts)
        self.assertIn("4 prompts have arrival times", report["note"])
        report, sent = self.drive(server, "--prompts", prompts, "--trace-arrivals", concurrency=0)
        self.assertEqual([len(r["body"]["input_ids"]) for r in sent], [600, 601, 602, 603])
        self.assertEqual([r["body"]["sampling_params"]["max_new_tokens"] for r in sent], [3, 4, 5, 6])
        for before, after in zip(sent, sent[1:]): self.assertAlmostEqual(after["time"] - before["time"], 0.4, delta=0.2)
        self.assertEqual(report["note"], "")

    def test_servers_of_openai(self):
        server = self.server(routes=("/health", "/v1/completions", "/v1/chat/completions", "/v1/models"), key="correct-horse")
        prompts = self.file([{"prompt": "q"}])
        said, sent = self.drive(server, "--prompts", prompts, status=1, url=server.url + "/v1")
        self.assertEqual(sent, [])
        for flags, env in ((("--api-key", "correct-horse"), {}), ((), {"OPENAI_API_KEY": "correct-horse"}), (("--header", "Authorization: Bearer correct-horse"), {})):
            report, sent = self.drive(server, "--prompts", prompts, *flags, url=server.url + "/v1/", env=env)
            self.assertEqual([r["path"] for r in sent], ["/v1/chat/completions"])
            self.assertEqual(report["completed"], 1)
        # The key alone says enough; and what is random is sent as token ids.
        report, sent = self.drive(server, "--random-prompts", "--num-prompts", 2, "--api-key", "correct-horse")
        self.assertEqual([r["path"] for r in sent], ["/v1/completions"] * 2)
        self.assertEqual(sent[0]["body"]["model"], "the-model")
        report, sent = self.drive(server, "--prompts", prompts, "--api-key", "correct-horse", "--header", "X-A: b: c", "--header", "X-B:", url=server.url + "/v1/chat/completions")
        self.assertEqual((sent[0]["headers"]["X-A"], sent[0]["headers"]["X-B"]), ("b: c", ""))
        for wrong in ("nothing", ": x", "a b: c", "X: a\nY: b"):
            said, sent = self.drive(server, "--prompts", prompts, "--header", wrong, status=2)
            self.assertIn("--header", said)

    def test_a_server_that_does_not_stream(self):
        server = self.server(streams=False)
        for endpoint in ("generate", "completions", "chat"):
            report, sent = self.drive(server, "--prompts", self.file([{"prompt": "q"}]), "--endpoint", endpoint)
            self.assertEqual((report["completed"], report["output_tokens"]), (1, 2), endpoint)
            self.assertIn("does not stream", report["note"])
            self.assertLess(0, report["time_to_first_token_s"]["p50"])
            self.assertLessEqual(report["time_to_first_token_s"]["p50"], report["request_s"]["p50"])

    def test_a_server_whose_routes_only_a_request_tells(self):
        """Its GET answers 200 whatever the path."""
        server = self.server(routes=("/health", "/v1/completions", "/v1/chat/completions", "/v1/models"), answers_any_get=True)
        report, sent = self.drive(server, "--prompts", self.file([{"prompt": "q"}]))
        self.assertEqual([r["path"] for r in sent], ["/v1/chat/completions"])
        report, sent = self.drive(server, "--prompts", self.file([{"input_length": 7, "output_length": 2}]))
        self.assertEqual([(r["path"], len(r["body"]["prompt"])) for r in sent], [("/v1/completions", 7)])

    def test_collect_says_what_of_its_schedules_was_sent(self):
        with tarfile.open(DATA / "definitions.tar.gz") as archive:
            archive.extractall(self.folder / "trace")
        def collect(name, *flags, status=0):
            result = subprocess.run([BINARY, "collect", "--trace-dir", self.folder / "trace", "--engine", "simulated", "--definition-name", DECODE, "--work-dir", self.folder / name,
                                     "--engine-args", "--max-total-tokens 16384", "--all-prompts", "-q", *map(str, flags)], capture_output=True, text=True, env=self.env, timeout=120)
            self.assertEqual(result.returncode, status, result.stdout + result.stderr)
            return result.stdout + result.stderr
        prompts = self.file([{"prompt": f"q{i}", "output_tokens": 4} for i in range(5)])
        collect("a", "--prompts", prompts, "--sweep", "2,4", "--sweep-rounds", "3")
        run = json.loads((self.folder / "trace/collection.json").read_text())["captures"][-1]["run"]
        self.assertEqual([(s["concurrency"], s["requests"], s["reached"]) for s in run["schedules"]], [(2, 6, 6), (4, 12, 12)])
        self.assertEqual(run["traffic"]["completed"], 18)
        self.assertIn("5 prompts for 18 requests", run["traffic"]["note"])
        collect("b", "--prompts", prompts)
        run = json.loads((self.folder / "trace/collection.json").read_text())["captures"][-1]["run"]
        self.assertEqual([(s["requests"], s["reached"]) for s in run["schedules"]], [(1000, 5)])
        # Before an engine starts.
        said = collect("c", "--prompts", self.file([{"id": 1}], "none.jsonl"), status=1)
        self.assertIn("none of its 1 records is a prompt", " ".join(said.split()))
        self.assertFalse((self.folder / "c").exists())

    def test_collect_gives_the_key_that_its_engine_wants(self):
        with tarfile.open(DATA / "definitions.tar.gz") as archive:
            archive.extractall(self.folder / "trace")
        engine = self.file("""
import sys
sys.path.insert(0, sys.argv[2])
import test_traffic
key = sys.argv[sys.argv.index("--api-key") + 1]
class Fixed(test_traffic.http.server.ThreadingHTTPServer):
    def __init__(self, address, handler): super().__init__((address[0], int(sys.argv[1])), handler)
test_traffic.http.server.ThreadingHTTPServer = Fixed
server = test_traffic.Server(routes=("/v1/completions", "/v1/chat/completions", "/v1/models"), key=key)
import time
time.sleep(600)
""", "engine.py")
        command = [BINARY, "collect", "--trace-dir", self.folder / "trace", "--definition-name", DECODE, "--prompts", self.file([{"prompt": "q"}]), "--work-dir", self.folder / "work",
                   "--launch-command", f"{shutil.which('python3')} {engine} {{port}} {Path(__file__).parent} --api-key correct-horse", "--python", shutil.which("python3"), "-q"]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**self.env, "COLLECT_WORKLOADS": BINARY}, timeout=120)
        run = json.loads((self.folder / "trace/collection.json").read_text())["captures"][-1]["run"]
        self.assertEqual((run["traffic"]["completed"], run["traffic"]["failed"]), (1, 0), result.stdout + result.stderr)
        self.assertNotIn("correct-horse", (self.folder / "trace/collection.json").read_text() + result.stdout + result.stderr)


if __name__ == "__main__":
    unittest.main()
