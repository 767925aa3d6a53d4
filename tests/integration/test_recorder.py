"""The recorder in real Python processes, with stand-ins for PyTorch and FlashInfer (fakes/): what it sees, what it survives,
and what it never writes. With FlashInfer's own signatures and a real PyTorch: test_recorder_flashinfer.py."""
import concurrent.futures, json, os, pathlib, random, re, resource, shutil, signal, subprocess, sys, threading, time, unittest

from support import BINARY, DatasetTest, run, tensor, tree, workloads

HERE = pathlib.Path(__file__).parent
SCENARIO = HERE / "recorder_scenario.py"
DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE / "fakes"), "PYTHONWARNINGS": "ignore::DeprecationWarning"}


def pythons():
    """One interpreter of each version from 3.10 on that this machine has, by version."""
    found = {}
    places = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(10, 16)),
              *map(str, pathlib.Path.home().glob(".pyenv/versions/*/bin/python3"))]
    for path in places:
        if not path or not os.access(path, os.X_OK): continue
        version = subprocess.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2], hasattr(sys, 'abiflags') and 't' in sys.abiflags)"],
                                 capture_output=True, text=True).stdout.split()
        if version and version[1] == "False" and tuple(map(int, version[0].split("."))) >= (3, 10): found.setdefault(version[0], path)
    return found


class RecorderCase(DatasetTest):
    def setUp(self):
        super().setUp()
        self.environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(self.folder / "cache")}
        self.recording = self.folder / "recording"

    def record(self, *command, options=(), check=0, python=sys.executable, **more):
        """Runs a scenario under the recorder."""
        return run("record", "-o", self.recording, *options, "--", python, SCENARIO, *command, check=check,
                   env=self.environment, timeout=300, **more)

    def inspect(self, *paths):
        return json.loads(run("inspect", *(paths or [self.recording]), "--trace-dir", self.trace, "--json", check=0).stdout)

    def files(self): return sorted(self.recording.glob("*.cbor"))


class RecorderTest(RecorderCase):
    # ------------------------------------------------------------------------------------------------ what it sees

    def test_a_script_that_sets_pythonpath_anew(self):
        script = self.folder / "launch.sh"
        script.write_text(f"export PYTHONPATH={HERE / 'fakes'}\nexec {sys.executable} -c 'import time; time.sleep(1)'\n")
        said = " ".join(run("record", "-o", self.recording, "--", "sh", script, check=0, env=self.environment).stderr.split())
        self.assertIn("a script changed that of", said)
        self.assertRegex(said, r"that of python[0-9.]* \(process [0-9]+\)")
        # In front of the command it is added to.
        run("record", "-o", self.recording, "--", f"PYTHONPATH={HERE / 'fakes'}", sys.executable, "-c",
            "import torch; from flashinfer import norm; norm.rmsnorm(torch.empty(3, 4096), torch.empty(4096), 1e-5)", check=0, env=self.environment)
        self.assertEqual(json.loads(run("inspect", self.recording, "--json", check=0).stdout)["calls"], 1)

    def test_an_engine_under_every_python(self):
        found = pythons()
        self.assertTrue(found)
        print("Python", ", ".join(sorted(found)), file=sys.stderr)
        trees = []
        for version, python in sorted(found.items()):
            self.recording, trace = self.folder / version, self.new_trace("trace" + version)
            self.record("engine", options=["--keep-values"], python=python)
            self.sanitize(self.recording, "--select", "all", trace=trace)
            run("validate", "--trace-dir", trace, check=0)
            trees.append({path: digest for path, digest in tree(trace).items() if path != "collection.json"})
            self.check_engine(trace)
        self.assertEqual([trees[0]] * len(trees), trees)

    def check_engine(self, trace):
        made = workloads(trace)
        self.assertEqual({"gemm_n128_k2048": 1, DECODE: 4, "rmsnorm_h4096": 1, "top_k_top_p_sampling_from_probs_v128256": 1},
                         {name: len(items) for name, items in made.items() if items})
        tables = {tuple(tensor(trace, w["inputs"]["kv_indptr"])): tensor(trace, w["inputs"]["kv_indices"]) for w in made[DECODE]}
        # Two eager steps, and two replays with the tables of the fast plan before each, padding and all; nothing of the capture's.
        expected = {(0, 5, 12): 0, (0, 6, 14): 100, (0, 10, 21, 33, 34): 200, (0, 11, 23, 36, 37): 300}
        self.assertEqual(tables, {indptr: [first + i for i in range(indptr[-1])] for indptr, first in expected.items()})
        for workload in made[DECODE]:
            self.assertEqual(workload["inputs"]["sm_scale"], {"type": "scalar", "value": 0.125}, "as forward() set it")
        (sampling,) = made["top_k_top_p_sampling_from_probs_v128256"]
        self.assertEqual(sampling["inputs"]["top_p"]["type"], "safetensors")
        (section,) = json.loads((trace / "collection.json").read_text())["captures"]
        self.assertEqual(section["definitions"][DECODE]["calls"], 12)
        self.assertEqual(section["definitions"][DECODE]["derived_calls"], {})

    # Steps of recorder_scenario.traffic by batch size and number of KV entries, of three layers each.
    TRAFFIC = {(16, 128): 960, (1, 100): 360, (4, 20): 120, (4, 36): 60}

    def check_frequencies(self, trace, times=1):
        """Of all calls, also those whose tables were sampled out; in the file, the report and the pull request's text."""
        sections = json.loads((trace / "collection.json").read_text())["captures"]
        shapes, stands_for, kept = {}, {}, workloads(trace)[DECODE]
        axes = {w["uuid"]: (w["axes"]["batch_size"], w["axes"]["num_kv_indices"]) for w in kept}
        for section in sections:
            decode, runs = section["definitions"][DECODE], section["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]
            self.assertEqual((runs["calls"], runs["bound"] + runs["sampled"], runs["rejected"], decode["calls"]), (1500, 1500, 0, 1500))
            self.assertEqual(decode["without_values"], {"values_sampled_out": runs["sampled"]})
            self.assertGreater(runs["sampled"], 700, "sampling is what this is about")
            self.assertLessEqual(sum(w["seen"] for w in decode["workloads"]), runs["bound"])
            distribution = decode["distribution"]
            self.assertEqual(distribution["axes"]["batch_size"], {"calls": [[1, 360], [4, 180], [16, 960]]})
            self.assertEqual({name: sum(row[-1] for row in axis["calls"]) for name, axis in distribution["axes"].items()},
                             dict.fromkeys(distribution["axes"], 1500))
            names = distribution["shapes"]["axes"]
            for row in distribution["shapes"]["calls"]:
                shape = (row[names.index("batch_size")], row[names.index("num_kv_indices")])
                shapes[shape] = shapes.get(shape, 0) + row[-1]
            for workload in decode["workloads"]:
                shape = axes[workload["uuid"]]
                stands_for[shape] = stands_for.get(shape, 0) + workload["stands_for"]
            self.assertNotIn("values_sampled_out", [defect["name"] for defect in section["defects"]])
        self.assertEqual(shapes, {shape: times * calls for shape, calls in self.TRAFFIC.items()})
        if set(stands_for) == set(shapes): self.assertEqual(stands_for, shapes)
        self.assertEqual(sum(stands_for.values()), 1500 * times)

        summary = json.loads(run("report", "--trace-dir", trace, "--json", check=0).stdout)
        decode = next(d for d in summary["definitions"] if d["name"] == DECODE)
        self.assertEqual((decode["calls"], sum(w["stands_for"] for w in decode["workloads"])), (1500 * times, 1500 * times))
        self.assertEqual(decode["distribution"]["axes"]["batch_size"], {"calls": [[size, calls * times] for size, calls in ((1, 360), (4, 180), (16, 960))]})
        self.assertIn("| batch_size | 16: 64.0 %, 1: 24.0 %, 4: 12.0 % |", run("report", "--trace-dir", trace, "--format", "md", check=0).stdout)

    def test_frequencies_are_those_of_all_calls(self):
        self.record("traffic")
        for number, options in enumerate([["--num-samples", "4"], [], ["--select", "all"], ["--num-pages", "pool"]]):
            trace = self.new_trace(f"trace{number}")
            self.sanitize(self.recording, *options, trace=trace)
            self.check_frequencies(trace)

    def test_frequencies_of_tables_that_are_cut_out_of_others(self):
        """Of calls whose values are sampled out, too, the entries before the first do not count."""
        self.record("cut_out")
        self.sanitize(self.recording)
        (section,) = json.loads((self.trace / "collection.json").read_text())["captures"]
        decode = section["definitions"][DECODE]
        self.assertGreater(sum(decode["without_values"].values()), 100)
        self.assertEqual(decode["distribution"]["axes"]["num_kv_indices"], {"calls": [[6, 400]]})

    def test_frequencies_of_a_recording_that_is_watched(self):
        self.record("traffic")
        run("watch", "--dumps", self.recording, "--trace-dir", self.trace, "--until-idle", "1", check=0)
        self.check_frequencies(self.trace)

    def test_frequencies_over_ranks_and_merges(self):
        traces = []
        for rank in range(2):
            self.recording = self.folder / f"rank{rank}"
            self.record("traffic", 1000 * rank)
            # The same capture sanitized twice: merged, its calls count once.
            for options in ([], ["--num-samples", "5"]):
                traces.append(self.new_trace(f"rank{rank}-{len(options)}"))
                self.sanitize(self.recording, *options, trace=traces[-1])
        merged = self.folder / "merged"
        run("merge", *traces, "--out", merged, check=0)
        self.check_frequencies(merged, times=2)
        # Of those that a selection leaves out, the calls go on to their like.
        run("merge", merged, "--out", self.folder / "few", "--num-samples", "8", check=0)
        self.check_frequencies(self.folder / "few", times=2)
        # Both ranks in one capture's folder.
        both = self.folder / "both"
        both.mkdir()
        for rank in range(2):
            for file in (self.folder / f"rank{rank}").glob("*.cbor"): shutil.copy(file, both / f"{rank}-{file.name}")
        trace = self.new_trace("both-trace")
        self.sanitize(both, trace=trace)
        (section,) = json.loads((trace / "collection.json").read_text())["captures"]
        decode = section["definitions"][DECODE]
        self.assertEqual((decode["calls"], sum(w["stands_for"] for w in decode["workloads"])), (3000, 3000))
        self.assertEqual(decode["distribution"]["axes"]["batch_size"], {"calls": [[1, 720], [4, 360], [16, 1920]]})

    def test_floats_only_when_asked_for(self):
        self.record("engine")
        result = self.sanitize(self.recording, "--op-type", "sampling", check=3)
        self.assertIn("values_not_recorded", [defect["name"] for defect in result["defects"]])
        self.record("engine", options=["--keep-values"])
        off, on = (b"\x6ckeeps_values\xf4", b"\x6ckeeps_values\xf5")  # CBOR: the text, then false or true
        self.assertEqual(sorted((off in f.read_bytes(), on in f.read_bytes()) for f in self.files()), [(False, True), (True, False)])

    def test_fork_and_spawn(self):
        for kind in ("fork", "spawn"):
            self.recording = self.folder / kind
            self.record("children", kind)
            self.assertEqual(len(self.files()), 2, "a file each")
            sizes = [self.inspect(f)["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["shapes"]["q"] for f in self.files()]
            self.assertEqual([s.split()[0] for s in sizes], ["[1,", "[1,"])
            seen = self.inspect()
            self.assertEqual((seen["processes"], seen["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["bound"]), (2, 6))

    def test_threads(self):
        self.record("threads")
        seen = self.inspect()["functions"]
        self.assertEqual({name: f["calls"] for name, f in seen.items()},
                         {"BatchDecodeWithPagedKVCacheWrapper.__init__": 8, "BatchDecodeWithPagedKVCacheWrapper.plan": 1600,
                          "BatchDecodeWithPagedKVCacheWrapper.run": 3200, "rmsnorm": 3200})
        decode = seen["BatchDecodeWithPagedKVCacheWrapper.run"]
        self.assertEqual((decode["bound"] + decode["sampled"], decode["rejections"]), (3200, []))

    def test_exceptions_of_the_api(self):
        self.record("raising")
        seen = self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]
        self.assertEqual((seen["calls"], seen["bound"]), (3, 1))
        self.assertEqual({r["reason"]: r["count"] for r in seen["rejections"]}["call_unfinished"], 2)

    def test_torch_that_is_loaded_last(self):
        script = "from flashinfer import norm\nimport torch\nnorm.rmsnorm(torch.empty(3, 4096), torch.empty(4096), 1e-5)"
        run("record", "-o", self.recording, "--", sys.executable, "-c", script, check=0, env=self.environment)
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["bound"], 1)

    def test_a_function_of_no_module(self):
        result = self.record("of_no_module")
        self.assertEqual(result.stderr.count("recorder: off"), 0, result.stderr)
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)

    def test_paused(self):
        self.record("paused")
        seen = self.inspect()["functions"]
        self.assertEqual((seen["BatchDecodeWithPagedKVCacheWrapper.plan"]["calls"], seen["BatchDecodeWithPagedKVCacheWrapper.run"]["bound"]), (5, 15))

    def test_a_hook_looks_like_its_function(self):
        for version, python in sorted(pythons().items()):
            with self.subTest(version):
                self.recording = self.folder / version
                self.record("looks", python=python)
                calls = {name: seen["calls"] for name, seen in self.inspect()["functions"].items()}
                self.assertEqual((calls["rmsnorm"], calls["BatchDecodeWithPagedKVCacheWrapper.run"]), (8, 2))

    @unittest.skipUnless(os.environ.get("CW_SANITIZED_MODULE"), "the module has no sanitizer in this build")
    def test_under_a_sanitizer(self):
        """The module itself under AddressSanitizer or ThreadSanitizer, in an interpreter that has neither."""
        self.record("engine")
        kit = next((self.folder / "cache").rglob("recorder-*"))
        shutil.copy(os.environ["CW_SANITIZED_MODULE"], kit / "_collect_workloads_recorder.abi3.so")
        scenarios = [["engine"], ["threads"], ["raising"], ["garbage", "3", "500"], ["steps", "500"]]
        if "tsan" not in os.environ["CW_PRELOAD"]: scenarios.append(["children", "fork"])  # TSan knows no threads after a fork
        for number, scenario in enumerate(scenarios):
            folder = self.folder / f"sanitized{number}"
            result = subprocess.run([sys.executable, SCENARIO, *scenario], capture_output=True, text=True, timeout=600, env={
                **self.environment, "PYTHONPATH": f"{kit}:{HERE / 'fakes'}", "COLLECT_WORKLOADS_RECORD": str(folder), "LD_PRELOAD": os.environ["CW_PRELOAD"],
                "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "report_signal_unsafe=0:" + os.environ.get("TSAN_OPTIONS", "").replace(" ", ":")})
            self.assertEqual((result.returncode, "Sanitizer" in result.stderr, "off in process" in result.stderr), (0, False, False), result.stderr[-4000:])
            self.assertGreater(self.inspect(folder)["calls"], 0)

    # -------------------------------------------------------------------------------------------- what it survives

    def test_garbage_in_every_place(self):
        for seed in (1, 2):
            self.recording = self.folder / f"garbage{seed}"
            result = self.record("garbage", seed)
            self.assertEqual(result.stdout, "as if nothing was there\n")
            self.assertNotIn("off in process", result.stderr)
            self.assertEqual(self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.plan"]["calls"], 3001)

    def test_what_an_attack_found(self):
        """Each of these killed, hung or misled once."""
        for scenario in ("signals", "stop_twice"):
            self.recording = self.folder / scenario
            result = self.record(scenario)
            self.assertEqual(result.stderr.count("off in process"), 0, result.stderr)
        for version, python in pythons().items():
            self.recording = self.folder / f"daemons{version}"
            self.record("daemons", python=python)
        self.recording = self.folder / "long"
        self.record("raising_for_long")
        seen = self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]
        # That a call raised after its window had been written is a record of its own: {"record": "raised", …}.
        late = sum(file.read_bytes().count(b"\x66record\x66raised") for file in self.files())
        unfinished = {r["reason"]: r["count"] for r in seen["rejections"]}["call_unfinished"]
        self.assertEqual((unfinished + late, seen["calls"]), (300, 300))
        self.recording = self.folder / "wrappers"
        self.record("two_wrappers")
        seen = self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]
        self.assertEqual((seen["bound"], [r["reason"] for r in seen["rejections"]]), (1, ["sliding_window"]))
        self.recording = self.folder / "pool"
        self.record("pool")
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 4)
        self.recording = pathlib.Path(os.fsdecode(bytes(self.folder / "bytes-") + b"\xff"))
        self.record("engine", errors="surrogateescape")
        self.assertEqual(len(self.files()), 1)
        for version, python in pythons().items():
            with self.subTest(version):
                self.recording = self.folder / f"off{version}"
                variables = {**self.environment, "COLLECT_WORKLOADS_RECORD_BUDGET": "no number"}
                kit = next((self.folder / "cache").rglob("recorder-*"))
                for kind in ("none", "closed", "broken"):
                    result = subprocess.run([python, SCENARIO, "without_stderr", kind], capture_output=True, text=True, timeout=100, env={
                        **variables, "PYTHONPATH": f"{kit}:{HERE / 'fakes'}", "COLLECT_WORKLOADS_RECORD": str(self.recording)})
                    self.assertEqual((result.returncode, result.stdout), (0, "fine\n"), result.stderr)
                self.record("odd_decorations", python=python)
                self.assertEqual(self.inspect()["functions"]["Odd.plain"]["calls"], 1)
                self.recording = self.folder / f"replaced{version}"
                self.record("replaced", python=python)
                self.assertEqual(self.inspect()["functions"]["linear"]["calls"], 3)
                self.recording = self.folder / f"interpreters{version}"
                self.record("interpreters", python=python)
                self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 52)

    def test_descriptors_are_the_engines(self):
        """A process that closes all descriptors and opens its own: whatever number it gets, nothing of ours is written there."""
        for kind in ("file", "sqlite", "socket", "exit"):
            for first in ("3", "0"):
                with self.subTest(kind, first=first):
                    self.recording = self.folder / f"{kind}{first}"
                    self.record("closes_descriptors", kind, self.folder / f"{kind}{first}-of-mine", first)
                    self.assertEqual((self.folder / f"{kind}{first}-of-mine-verdict").read_text(), "mine alone")
                    (file,) = self.files()
                    self.assertEqual(self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.plan"]["calls"], 1 if kind == "exit" else 26)

    def test_the_line_that_says_off_goes_to_stderr_or_nowhere(self):
        """Also where the engine has put a file of its own in the place of stderr."""
        self.record("engine")
        kit = next((self.folder / "cache").rglob("recorder-*"))
        variables = {**self.environment, "COLLECT_WORKLOADS_RECORD": str(self.folder / "full"), "PYTHONPATH": f"{kit}:{HERE / 'fakes'}"}
        limit = self.files()[0].stat().st_size // 2  # the first call fits, and no more: it is off after the engine has closed what it likes
        for first, told in (("3", 1), ("0", 0)):
            path = self.folder / f"off{first}"
            result = subprocess.run([sys.executable, SCENARIO, "closes_descriptors", "file", path, first], capture_output=True, text=True, env=variables,
                                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            self.assertEqual((self.folder / f"off{first}-verdict").read_text(), "mine alone")
            self.assertEqual((result.returncode, result.stderr.count("recorder: off")), (0, told), result.stderr)

    def test_a_closed_standard_stream_is_not_taken_for_the_recording(self):
        for closed in (1, 2):
            self.recording = self.folder / f"closed{closed}"
            code = "import os; os.closerange(%d, %d); os.execvp(%r, %r)" % (
                closed, closed + 1, BINARY, [BINARY, "record", "-o", str(self.recording), "--", sys.executable, str(SCENARIO), "says", "hello"])
            subprocess.run([sys.executable, "-c", code], env=self.environment, timeout=100, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            (file,) = self.files()
            self.assertFalse(b"hello" in file.read_bytes())
            self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 30)

    def test_one_recorder_in_another(self):
        own = self.folder / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text("import os; os.environ['OWN'] = 'ran'\n")
        self.environment["PYTHONPATH"] = f"{own}:{HERE / 'fakes'}"
        inner = [BINARY, "record", "-q", "--only", "rmsnorm", "-o", self.recording, "--", sys.executable, "-c",
                 "import os; from flashinfer import norm; import torch; norm.rmsnorm(torch.empty(1, 64), torch.empty(64)); print(os.environ['OWN'])"]
        result = run("record", "-o", self.folder / "outer", "--", *inner, check=0, env=self.environment)
        self.assertEqual(result.stdout, "ran\n", result.stderr)
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)

    def test_another_tools_import_hook(self):
        self.record("foreign_finder")
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)

    def test_a_full_disk(self):
        if os.geteuid() != 0: self.skipTest("needs root to mount a small disk")
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode != 0:
            self.skipTest("no tmpfs here")
        try:
            self.recording = disk
            result = self.record("steps", 3000)
            self.assertEqual(result.stdout, "done\n")
            self.assertRegex(result.stderr, r"recorder: off in process \d+: cannot write .*No space left")
            self.assertEqual(result.stderr.count("recorder: off"), 1)
            self.assertGreater(self.inspect()["calls"], 100, "what was written before can be read")
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def test_a_folder_that_cannot_be_written(self):
        self.record("engine")
        variables = {"COLLECT_WORKLOADS_RECORD": "/proc/nowhere", "PYTHONPATH": f"{next((self.folder / 'cache').rglob('recorder-*'))}:{HERE / 'fakes'}"}
        result = subprocess.run([sys.executable, SCENARIO, "steps", "500"], capture_output=True, text=True, env={**self.environment, **variables})
        self.assertEqual((result.returncode, result.stdout), (0, "done\n"))
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn("recorder: off in process", result.stderr)

    def test_eight_ranks_in_one_folder(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool: list(pool.map(lambda _: self.record("steps", 200), range(8)))
        self.assertEqual(len(self.files()), 8)
        seen = self.inspect()
        self.assertEqual((seen["processes"], seen["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"]), (8, 1600))

    def test_a_clock_that_goes_back(self):
        """An hour at every look; and the same time again for a process of the same number, so that the names collide."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler: self.skipTest("no C compiler")
        (self.folder / "clock.c").write_text("""
            #define _GNU_SOURCE
            #include <sys/syscall.h>
            #include <time.h>
            #include <unistd.h>
            int clock_gettime(clockid_t clock, struct timespec *now) {
              static long looks = 0;
              long status = syscall(SYS_clock_gettime, clock, now);
              if (clock == CLOCK_REALTIME) *now = (struct timespec){2000000000L - 3600L * looks++, 0};
              return (int)status;
            }""")
        clock = str(self.folder / "clock.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", clock, self.folder / "clock.c"], check=True)
        namespace = ["unshare", "--pid", "--fork", "--map-root-user"]
        if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0: namespace = []
        command = ["record", "-o", str(self.recording), "--", "env", "LD_PRELOAD=" + clock, sys.executable, str(SCENARIO), "engine"]
        for _ in range(3):
            subprocess.run([*namespace, BINARY, *command], check=True, capture_output=True, env=self.environment, timeout=100)
        names = sorted(f.stem for f in self.files())
        self.assertEqual(len(names), 3)
        if namespace: self.assertEqual([names[0], names[0] + "-1", names[0] + "-2"], names)
        seen = self.inspect()
        self.assertEqual((seen["processes"], seen["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"]), (3, 36))

    def test_the_budget_is_a_hard_bound(self):
        for budget in (5_000, 50_000, 250_000):
            self.recording = self.folder / str(budget)
            result = self.record("steps", 3000, options=["--record-budget", budget])
            self.assertEqual(result.stdout, "done\n")
            (file,) = self.files()
            self.assertLessEqual(file.stat().st_size, budget)
            self.assertGreater(file.stat().st_size, budget * 0.5)
            run("inspect", self.recording, check=0)
        self.assertIn("calls_over_budget", run("inspect", self.recording).stdout)

    # ------------------------------------------------------------------------------------------ what it never does

    def test_no_content(self):
        self.record("secret")
        (file,) = self.files()
        content, secret = file.read_bytes(), "the-secret-of-the-prompt"
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertGreater(self.inspect()["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["bound"], 0, "index tensors are there")
        codes = [ord(c) for c in secret]
        forms = {"text": secret.encode(), "part of it": b"secret", "int32": b"".join(c.to_bytes(4, "little") for c in codes[:4]),
                 "int64": b"".join(c.to_bytes(8, "little") for c in codes[:4])}
        import struct
        forms["float32"] = struct.pack("<4f", *codes[:4])
        forms["CBOR list"] = bytes(b for c in codes[:4] for b in (0x18, c))
        for name, form in forms.items(): self.assertNotIn(form, content, name)

    def test_nothing_is_loaded_without_the_variables(self):
        self.record("engine")
        kit = next((self.folder / "cache").rglob("recorder-*"))
        code = "import sys, flashinfer.norm; print([m for m in sys.modules if 'collect_workloads' in m], flashinfer.norm.rmsnorm.__module__)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**self.environment, "PYTHONPATH": f"{kit}:{HERE / 'fakes'}"})
        self.assertEqual(result.stdout, "[] flashinfer.norm\n", result.stderr)

    def test_the_engines_own_sitecustomize_runs(self):
        own = self.folder / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text("import os; os.environ['OWN'] = 'ran'\n")
        self.environment["PYTHONPATH"] = f"{own}:{HERE / 'fakes'}"
        code = "import os; from flashinfer import norm; import torch; norm.rmsnorm(torch.empty(1, 64), torch.empty(64)); print(os.environ['OWN'])"
        result = run("record", "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.assertEqual(result.stdout, "ran\n")
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)

    # --------------------------------------------------------------------------------------------- the command line

    def test_plans_that_take_a_dataclass(self):
        """FlashInfer 0.7.2's MLA: metadata=, and query and kv_cache as one tensor each or a pair."""
        code = """
import torch
from flashinfer import mla
from torch import Tensor, empty
heads, pages = 16, 64
def decode(wrapper, lengths, first, others={}, **forms):
    indptr = [0]
    for length in lengths: indptr.append(indptr[-1] + length)
    metadata = mla.MLAPlanMetadata(Tensor(list(range(len(lengths) + 1))), Tensor(indptr), Tensor([first + i for i in range(indptr[-1])]), Tensor(list(lengths)))
    wrapper.plan(metadata=metadata, **others, num_heads=heads, head_dim_ckv=512, head_dim_kpe=64, page_size=1, causal=False, sm_scale=0.125,
                 q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16)
    wrapper.run(**forms)
wrapper = mla.BatchMLAPagedAttentionWrapper(empty(16))
decode(wrapper, [3, 2], 10, query=empty(2, heads, 576), kv_cache=empty(pages, 1, 576))
decode(wrapper, [4], 20, query=(empty(1, heads, 512), empty(1, heads, 64)), kv_cache=(empty(pages, 1, 512), empty(pages, 1, 64)))
explicit = dict.fromkeys(("qo_indptr", "kv_indptr", "kv_indices", "kv_len_arr"))
decode(wrapper, [6], 40, explicit, query=empty(1, heads, 576), kv_cache=empty(pages, 1, 576))
decode(wrapper, [5], 30, q_nope=empty(1, heads, 512), q_pe=empty(1, heads, 64), ckv_cache=empty(pages, 1, 512), kpe_cache=empty(pages, 1, 64))
dense = mla.MLAPlanMetadata(cum_seq_lens_q=Tensor([0, 1]), block_tables=Tensor([7, 8]), seq_lens=Tensor([2]))
wrapper.plan(metadata=dense, num_heads=heads, head_dim_ckv=512, head_dim_kpe=64, page_size=1, causal=False, sm_scale=0.125)
wrapper.run(query=empty(1, heads, 576), kv_cache=empty(pages, 1, 576))
"""
        run("record", "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.sanitize(self.recording, "--select", "all")
        (made,) = [items for name, items in workloads(self.trace).items() if name == "mla_paged_decode_h16_ckv512_kpe64_ps1"]
        self.assertEqual({tuple(tensor(self.trace, w["inputs"]["kv_indices"])) for w in made},
                         {(10, 11, 12, 13, 14), (20, 21, 22, 23), (30, 31, 32, 33, 34), (40, 41, 42, 43, 44, 45)})
        self.assertEqual([item["count"] for item in self.inspect()["functions"]["BatchMLAPagedAttentionWrapper.run"]["rejections"]
                          if item["reason"] == "dense_plan"], [1])

    def test_arguments_within_arguments(self):
        """One level: what an attribute holds in turn is not looked into; and rules that are none are refused."""
        rules = self.folder / "rules.yaml"
        given = (pathlib.Path(__file__).parents[2] / "data/recorder.yaml").read_text()
        code = ("from flashinfer import norm; import torch; t = torch.empty(1, 64); t.input = t.weight = torch.empty(64); norm.rmsnorm(t, t)")
        rules.write_text(given.replace("objects:", "objects:\n  rmsnorm: {input: [input, weight]}"))
        run("record", "--recorder-rules", rules, "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)
        head, _, tail = given.partition("objects:")
        for objects, said in (("objects:", "`objects` is no map"), ("objects: [{metadata: [x]}]", "`objects` is no map"),
                              ("objects: {plan: {metadata: x}}", "`plan` of `objects` is malformed")):
            rules.write_text(head + objects + tail[tail.index("\n\nstate:"):])
            self.assertIn(said, run("record", "--recorder-rules", rules, "-o", self.recording, "--", "true", check=1, env=self.environment).stderr)

    def test_graphs_that_are_gone_or_captured_anew(self):
        code = """
import gc, torch
from flashinfer import norm
from torch.cuda.graphs import CUDAGraph
import _collect_workloads_recorder as native
forgotten = []
forget = native.forget_graph
native.forget_graph = lambda graph: (forgotten.append(graph), forget(graph))[1]
def capture(graph, rows):
    graph.capture_begin(); norm.rmsnorm(torch.empty(rows, 64), torch.empty(64)); graph.capture_end()
graph, other = CUDAGraph(), CUDAGraph()
capture(graph, 1)
capture(other, 2)
capture(graph, 3)
assert forgotten == [1], forgotten
graph.replay()
del graph, other
gc.collect()
assert set(forgotten) == {1, 2, 3}, forgotten
print("ran")
"""
        result = run("record", "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.assertEqual(result.stdout, "ran\n", result.stderr)
        self.assertEqual(self.inspect()["functions"]["rmsnorm"]["calls"], 1)
        self.assertNotIn("collect-workloads recorder", result.stderr)

    def test_graphs_whose_handle_the_engine_takes(self):
        """What it launches with that is not seen, and that is said."""
        code = """
from flashinfer import norm
import torch
from torch.cuda.graphs import CUDAGraph
graph, other = CUDAGraph(), CUDAGraph()
graph.capture_begin(); norm.rmsnorm(torch.empty(1, 64), torch.empty(64)); graph.capture_end()
other.capture_begin(); other.capture_end()
norm.rmsnorm(torch.empty(2, 64), torch.empty(64))
for _ in range(3): assert graph.raw_cuda_graph() == other.raw_cuda_graph() == 140000000000000
"""
        run("record", "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.assertEqual([(item["reason"], item["count"]) for item in self.inspect()["defects"]], [("graph_exposed", 1)])

    def test_calls_that_no_definition_can_be_for(self):
        code = "from flashinfer import sampling; import torch; sampling.top_k_mask_logits(torch.empty(1, 64), 5)"
        run("record", "-o", self.recording, "--", sys.executable, "-c", code, check=0, env=self.environment)
        self.assertIn("a step of sampling from logits", self.inspect()["functions"]["top_k_mask_logits"]["why_unbound"])
        self.assertIn("not covered by any binding a step of sampling from logits, and the definitions sample from probabilities logits [1, 64]",
                      " ".join(run("inspect", self.recording, check=0).stdout.split()))

    def test_why_nothing_was_recorded(self):
        """The recorder says how far it got: into no Python, into one without FlashInfer, into one that called nothing."""
        def words(*command):
            result = run("record", "-o", self.recording, "--", *command, check=0, env=self.environment)
            self.assertFalse(self.recording.exists())
            return " ".join(result.stderr.split())

        self.assertIn("no Python process loaded the recorder. It is found through PYTHONPATH", words("true"))
        self.assertIn("no Python process loaded the recorder", words(sys.executable, "-I", "-c", "import sys"))
        self.assertIn("FlashInfer was not imported by the one Python process", words(sys.executable, "-c", "import torch"))
        children = "import subprocess, sys; [subprocess.run([sys.executable, '-c', '']) for _ in range(3)]"
        self.assertIn("FlashInfer was not imported by the 4 Python processes", words(sys.executable, "-c", children))
        self.assertIn("the one Python process that loaded the recorder imported FlashInfer 0.6.15.post1 but called nothing",
                      words(sys.executable, "-c", "import flashinfer"))
        version = "import flashinfer.version; flashinfer.version.__version__ = 'x' * 100; import flashinfer"
        self.assertIn("imported FlashInfer", words(sys.executable, "-c", version))

    def test_record_is_like_the_command_itself(self):
        result = run("record", "-o", self.recording, "--", "sh", "-c", "cat; exit 7", check=7, env=self.environment, input="through")
        self.assertEqual(result.stdout, "through")
        self.assertIn("nothing was recorded", result.stderr)
        result = run("record", "-o", self.recording, "--only", "rmsnorm", "plan", "--", "sh", "-c", "exit 7", "--flag", check=7, env=self.environment)
        self.assertNotIn("flag", result.stderr)
        result = run("record", "-o", self.recording, "--", "sh", "-c", "kill -9 $$", check=-9, env=self.environment)
        result = run("record", "-o", self.recording, "--", "no-such-command", check=1, env=self.environment)
        self.assertIn("cannot start no-such-command", result.stderr)
        run("record", "-o", self.recording, check=2, env=self.environment)
        self.assertIn("after --", run("record", sys.executable, "-c", "1", check=2, env=self.environment).stderr)
        self.assertFalse(self.recording.exists())
        for budget in ("-5", "0", "4095", "1.5e30"):
            self.assertIn("--record-budget", run("record", "--record-budget", budget, "--", "true", check=2, env=self.environment).stderr)
        colon = {**self.environment, "XDG_CACHE_HOME": str(self.folder / "a:b")}
        self.assertIn("split at colons", run("record", "-o", self.recording, "--", "true", check=1, env=colon).stderr)
        rules = self.folder / "rules.yaml"
        rules.write_text("{format: 1, decorators: {flashinfer: 3}, functions: [], scopes: [], batches: [], state: []}")
        self.assertIn("`flashinfer` of `decorators`",
                      run("record", "--recorder-rules", rules, "-o", self.recording, "--", "true", check=1, env=self.environment).stderr)
        there = self.folder / "there"
        there.mkdir(mode=0o755)
        run("record", "-o", there, "--", "true", check=0, env=self.environment)
        self.assertEqual(there.stat().st_mode & 0o777, 0o755, "a folder that was there is left as it is")
        self.assertNotIn("after --", run("record", "--frob", "--", "true", check=2, env=self.environment).stderr)
        self.assertIn("1 process recorded", self.record("engine").stderr)
        self.assertIn("1 process recorded", self.record("engine").stderr, "of this run")
        self.assertIn("nothing was recorded", run("record", "-o", self.recording, "--", "true", check=0, env=self.environment).stderr)
        self.assertNotIn("no_definition", run("inspect", self.recording, check=0).stdout, "no dataset was given")
        for _ in range(2): run("record", "--", sys.executable, SCENARIO, "engine", check=0, env=self.environment, cwd=self.folder)
        self.assertEqual(len(list(self.folder.glob("recording-*"))), 2, "a folder each")
        self.recording = self.folder / "of two words"
        self.assertIn(f"sanitize --input '{self.recording}'", self.record("engine").stderr)

    def test_the_cache_is_nobody_elses(self):
        """Python runs what lies there: it is ours alone under any umask, and what somebody else could have put there is not used."""
        for mask in (0o000, 0o277):
            cache = self.folder / f"cache{mask:o}"
            cache.mkdir()
            subprocess.run(["sh", "-c", f"umask {mask:o}; exec \"$@\"", "sh", BINARY, "record", "-q", "-o", self.recording, "--", "true"], check=True,
                           env={**self.environment, "XDG_CACHE_HOME": str(cache)})
            for path in (cache / "collect-workloads").rglob("*"):
                self.assertEqual(path.stat().st_mode & 0o777, 0o700 if path.is_dir() else 0o600, path)
            self.assertEqual((cache / "collect-workloads").stat().st_mode & 0o777, 0o700)
        if os.geteuid() != 0: return
        os.chown(cache / "collect-workloads", 12345, 12345)
        result = run("record", "-o", self.recording, "--", "true", check=1, env={**self.environment, "XDG_CACHE_HOME": str(cache)})
        self.assertIn("belongs to another user", " ".join(result.stderr.split()))
        self.assertIn("XDG_CACHE_HOME", result.stderr)

    def test_assignments_in_front_of_the_command(self):
        result = run("record", "-q", "-o", self.recording, "--", "GREETING=hello there", "sh", "-c", "echo $GREETING", check=0, env=self.environment)
        self.assertEqual(result.stdout, "hello there\n")
        self.assertIn("no command", run("record", "-o", self.recording, "--", "A=b", check=1, env=self.environment).stderr)

    def test_every_signal_reaches_the_command_once(self):
        """Sent to us alone, or to the group, where the command has it from the sender."""
        program = self.folder / "counts.py"
        program.write_text("import os, signal, time\n"
                           "seen = []\n"
                           "for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH):\n"
                           "    signal.signal(s, lambda number, frame: (seen.append(number), print(number, flush=True)))\n"
                           "print('ready', flush=True)\n"
                           "deadline = time.time() + 20\n"
                           "while 'end' not in seen and time.time() < deadline and not os.path.exists(__file__ + '.end'): time.sleep(0.02)\n"
                           "raise SystemExit(7)\n")
        signals = [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH]
        for send in (os.kill, os.killpg):
            end = pathlib.Path(str(program) + ".end")
            end.unlink(missing_ok=True)
            process = subprocess.Popen([BINARY, "record", "-q", "-o", self.recording, "--", sys.executable, program], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, env=self.environment, start_new_session=True)
            self.assertEqual(process.stdout.readline(), "ready\n")
            for number in signals:
                send(process.pid, number)
                time.sleep(0.1)
            end.touch()
            out, err = process.communicate(timeout=30)
            self.assertEqual([int(line) for line in out.split()], [int(s) for s in signals], (send.__name__, err))
            self.assertEqual(process.returncode, 7)

    def test_it_ends_as_its_command_does(self):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1):
            result = subprocess.run([BINARY, "record", "-q", "-o", self.recording, "--", "sh", "-c", f"kill -{int(number)} $$"], env=self.environment)
            self.assertEqual(result.returncode, -number, "the shell that waits for us sees what it would have seen")
        # What its starter had ignored or blocked is so in the command.
        ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", BINARY, "record", "-q", "-o", self.recording, "--", "sh", "-c", "kill -HUP $$; exit 5"]
        self.assertEqual(subprocess.run(ignoring, env=self.environment).returncode, 5)

    def test_signals_reach_the_command(self):
        for sent, to_group in ((signal.SIGINT, True), (signal.SIGTERM, False)):
            self.recording = self.folder / str(sent)
            process = subprocess.Popen([BINARY, "record", "-o", self.recording, "--", sys.executable, SCENARIO, "steps", "100000", "0.01"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment, start_new_session=True)
            deadline = time.time() + 20
            while not (self.files() and self.inspect()["calls"]) and time.time() < deadline: time.sleep(0.05)
            (os.killpg if to_group else os.kill)(process.pid, sent)
            _, err = process.communicate(timeout=20)
            self.assertEqual(process.returncode, -sent, err)
            self.assertIn("1 process recorded", err)
            self.assertGreater(self.inspect()["calls"], 0)

    def test_watch_works_on_it_live(self):
        self.recording.mkdir()
        watch = subprocess.Popen([BINARY, "watch", "--dumps", self.recording, "--trace-dir", self.trace, "--definition-name", DECODE, "--select", "all",
                                  "--until-idle", "4", "--json"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        engine = threading.Thread(target=self.record, args=("steps", 60, "0.05"))
        engine.start()
        time.sleep(1.5)
        first = self.inspect()["functions"].get("BatchDecodeWithPagedKVCacheWrapper.run", {"calls": 0})["calls"]
        engine.join()
        out, _ = watch.communicate(timeout=60)
        self.assertEqual(watch.returncode, 0)
        section = json.loads(out)
        self.assertEqual(section["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"], 60)
        self.assertGreaterEqual(len(workloads(self.trace)[DECODE]), 50)
        self.assertLess(first, 60, "it was sanitized while it was made")

    def collect(self, *more, check=0):
        return run("collect", "--trace-dir", self.trace, "--definition-name", DECODE, "--random-prompts", "--input-tokens", "16-40", "--output-tokens", "6",
                   "--concurrency", "4", "--work-dir", self.folder / "work", "--all-prompts", "--launch-command", f"{sys.executable} {HERE / 'python_engine.py'} {{port}}",
                   "--json", *more, check=check, env={**self.environment, "XDG_STATE_HOME": str(self.folder / "state")}, timeout=120)

    def test_a_launch_command_with_a_pythonpath_of_its_own(self):
        """It stays, behind the recorder's folder."""
        environment = {name: value for name, value in self.environment.items() if name != "PYTHONPATH"}
        (section,) = json.loads(run("collect", "--trace-dir", self.trace, "--definition-name", DECODE, "--random-prompts", "--input-tokens", "16", "--output-tokens", "3",
                                    "--num-prompts", "2", "--work-dir", self.folder / "work", "--json", "--launch-command",
                                    f"PYTHONPATH={HERE / 'fakes'} {sys.executable} {HERE / 'python_engine.py'} {{port}}", check=0,
                                    env={**environment, "XDG_STATE_HOME": str(self.folder / "state")}, timeout=120).stdout)
        self.assertEqual(section["run"]["traffic"]["completed"], 2)
        self.assertGreater(section["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"], 0)

    def test_calls_within_others_are_none_of_their_own(self):
        """Of any number, also where their values are not kept and calls were grouped."""
        script = ("import torch\nfrom flashinfer import sampling\nfor i in range(30):\n"
                  "    sampling.top_k_top_p_sampling_from_probs(torch.empty(1 + i % 7, 128256, dtype=torch.float32), 40, torch.empty(1 + i % 7, dtype=torch.float32), filter_apply_order='top_k_first')")
        for options in ([], ["--keep-values"]):
            self.recording = self.folder / f"nested{len(options)}"
            run("record", "-o", self.recording, *options, "--", sys.executable, "-c", script, check=0, env=self.environment)
            seen = self.inspect()["functions"]["top_p_sampling_from_probs"]
            self.assertEqual({r["reason"]: r["count"] for r in seen["rejections"]}, {"nested_call": 30})
            self.assertEqual(seen["bound"] + seen["sampled"], 0)

    def test_who_stops_watching_has_not_ended_the_process(self):
        engine = subprocess.Popen([BINARY, "record", "-o", self.recording, "--", sys.executable, SCENARIO, "killed", "30"], env=self.environment,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(engine.wait)
        self.addCleanup(engine.kill)
        deadline = time.time() + 30
        while not self.files() and time.time() < deadline: time.sleep(0.05)
        watch = subprocess.Popen([BINARY, "watch", "--dumps", self.recording, "--trace-dir", self.trace], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=60)
        self.assertNotIn("recording_not_ended", out)
        self.assertNotIn("Dumps are deleted", err)
        engine.terminate()

    def test_collect_records_by_itself(self):
        (section,) = json.loads(self.collect("--num-prompts", "20", "--select", "all").stdout)
        self.assertEqual(section["run"]["capture"], "recorder")
        self.assertEqual(section["run"]["traffic"]["completed"], 20)
        self.assertEqual(section["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"], 20 * 6 * 2)
        self.assertGreater(len(workloads(self.trace)[DECODE]), 20)
        run("validate", "--trace-dir", self.trace, check=0)
        self.assertFalse((self.folder / "work/run1/dumps").exists(), "deleted unless it is to be kept")

    def test_collect_is_resumed(self):
        command = [BINARY, "collect", "--trace-dir", self.trace, "--definition-name", DECODE, "--random-prompts", "--input-tokens", "16-40", "--output-tokens", "6",
                   "--request-rate", "15", "--num-prompts", "90", "--work-dir", self.folder / "work", "--all-prompts", "--keep-dumps", "--select", "all", "-q",
                   "--launch-command", f"{sys.executable} {HERE / 'python_engine.py'} {{port}}"]
        environment = {**self.environment, "XDG_STATE_HOME": str(self.folder / "state")}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = self.folder / "work/run1/found/state.json"
        deadline = time.time() + 30
        while time.time() < deadline and not (state.exists() and json.loads(state.read_text())["more"].get("requests", 0) >= 15): time.sleep(0.1)
        process.kill()
        process.wait()
        result = json.loads(run("collect", "--resume", self.folder / "work", "--json", check=0, env=environment, timeout=120).stdout)
        # What was under way when it was killed was asked twice, and what it recorded counts; a last second may be missing.
        self.assertGreaterEqual(result[0]["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"], (90 - 15) * 6 * 2)
        self.assertLessEqual(result[0]["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"], 130 * 6 * 2)
        self.assertEqual(len(result), 1)

    def test_the_simulated_engine_has_nothing_to_record(self):
        result = run("collect", "--trace-dir", self.trace, "--definition-name", DECODE, "--engine", "simulated", "--capture", "recorder", check=1)
        self.assertIn("leave out --capture", result.stderr)

    def test_env_prints_what_records(self):
        text = run("env", "--trace-dir", self.trace, "--definition-name", DECODE, check=0, cwd=self.folder,
                   env={**self.environment, "PYTHONPATH": f"{HERE}:{HERE / 'fakes'}"}).stdout
        code = "import recorder_scenario; recorder_scenario.engine()"
        subprocess.run(["bash", "-c", f"{text}\nexport PYTHONPATH; '{sys.executable}' -c '{code}'"], check=True,
                       env={**self.environment, "PYTHONPATH": f"{HERE}:{HERE / 'fakes'}"}, cwd=self.folder)
        seen = self.inspect(self.folder / "recording")["functions"]
        self.assertEqual({name: f["calls"] for name, f in seen.items()}, {"BatchDecodeWithPagedKVCacheWrapper.__init__": 2,
            "BatchDecodeWithPagedKVCacheWrapper.plan": 5, "BatchDecodeWithPagedKVCacheWrapper.run": 12}, "what the definition needs, and no more")

    def test_a_damaged_recording(self):
        self.record("steps", 100, "0.01")
        (file,) = self.files()
        content = file.read_bytes()
        whole = self.inspect()["calls"]
        rng = random.Random(5)
        for i in range(40):
            damaged = bytearray(content)
            for _ in range(rng.randint(1, 3)): damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            if i % 2: del damaged[rng.randrange(len(damaged)):]
            path = self.folder / "damaged.cbor"
            path.write_bytes(damaged)
            result = run("inspect", path, "--json", check=0)
            self.assertLessEqual(json.loads(result.stdout)["calls"], whole)
        path.write_bytes(b"")
        run("inspect", path, check=0)
        os.mkfifo(self.recording / "pipe.cbor")
        (self.recording / "nowhere.cbor").symlink_to("gone")
        seen = run("inspect", self.recording, check=0, timeout=20).stdout
        self.assertIn("recording_unreadable", seen)
        self.assertIn("BatchDecodeWithPagedKVCacheWrapper.run", seen, "the others are read")

    def test_names_that_a_terminal_must_not_have(self):
        self.record("escapes")
        text = subprocess.run([BINARY, "inspect", self.recording], capture_output=True, check=True).stdout
        for line in text.decode().splitlines(): self.assertTrue(line.isprintable(), repr(line))
        self.assertIn(b"in?[2Jput", text)

    def test_recordings_and_dumps_are_not_mixed(self):
        self.record("engine")
        from support import unpack
        result = run("sanitize", "--dumps", self.recording, unpack("cpu-small", self.folder), "--trace-dir", self.trace, check=1)
        self.assertIn("one kind at a time", result.stderr)


class RecorderKillsTest(RecorderCase):
    """Processes that are killed: how much is on the disk by then is a race, which a busy machine decides otherwise."""

    def test_workers_that_are_killed_at_once(self):
        """A pool that is terminated as soon as its work is done: what its workers called first is on the disk by then, and what is missing is counted."""
        script = self.folder / "pool.py"
        script.write_text("""
import multiprocessing, sys
def work(n):
    import torch
    from flashinfer import norm
    norm.rmsnorm(torch.empty(n, 4096), torch.empty(4096), 1e-5)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(work, [1] * 8)
""")
        for i in range(3):
            recording = self.folder / f"pool{i}"
            run("record", "-o", recording, "--", sys.executable, script, check=0, env=self.environment)
            inspected = json.loads(run("inspect", recording, "--json", check=0).stdout)
            self.assertGreaterEqual(inspected["processes"], 1)
            self.assertGreaterEqual(inspected["calls"], 1)
            defects = {d["reason"]: d["count"] for d in inspected["defects"]}
            self.assertEqual(inspected["calls"] + defects.get("calls_lost", 0), 8, inspected)
            self.assertNotIn("recording_not_ended", defects)

    def test_a_process_that_is_killed(self):
        """As SGLang ends its workers: that is no defect where nothing is missing, and else says how much is; a file counts once."""
        for idle in (1.5, 0):
            self.recording = self.folder / f"killed{idle}"
            said = " ".join(self.record("killed", idle, check=-signal.SIGKILL).stderr.split())
            shown = self.inspect()
            calls = sum(function["calls"] for function in shown["functions"].values())
            lost = {d["reason"]: d["count"] for d in shown["defects"]}.get("calls_lost", 0)
            self.assertEqual(calls + lost, 151, shown)
            self.assertEqual("made last by 1 process that did not exit normally" in said, lost > 0, said)
            if idle: self.assertEqual((lost, shown["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["calls"]), (0, 50))

    def test_a_process_that_is_killed_and_nobody_waits_for(self):
        """Where nothing is lent that counts, it is said that something may be missing."""
        run("record", "-o", self.recording, "--", "env", "-u", "COLLECT_WORKLOADS_RECORD_COUNTS", sys.executable, SCENARIO, "killed", 0,
            check=-signal.SIGKILL, env=self.environment)
        self.assertEqual([d["count"] for d in self.inspect()["defects"] if d["reason"] == "recording_not_ended"], [1])

    def test_what_a_kill_costs_is_counted_whatever_the_process_does(self):
        """(What it does, how it ends, options, how many calls are lost or None where that is chance.)"""
        calls = "for i in range(%s): norm.rmsnorm(torch.empty(%s, 4096), torch.empty(4096), 1e-5)"
        kill = "os.kill(os.getpid(), signal.SIGKILL)"
        large = "x = bytearray(300 << 20)\nimport threading\n[threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for i in range(20)]"
        for name, body, status, options, lost in (
            ("clears its environment", ["os.environ.clear()", calls % (50, "1 + i"), kill], -signal.SIGKILL, [], None),
            ("is slow to die", [large, calls % (50, "1 + i"), kill], -signal.SIGKILL, [], None),
            ("leaves a child that is slow to die", [calls % (1, 1), "if os.fork() == 0:", "  " + large.replace("\n", "\n  "), "  " + calls % (49, "2 + i"), "  time.sleep(60)",
              "time.sleep(1)", "os.kill(int(open('/proc/self/task/%d/children' % os.getpid()).read().split()[0]), signal.SIGKILL)", "os._exit(0)"], 0, [], None),
            ("has used its budget up", [calls % (3000, "1 + i"), "time.sleep(3)", kill], -signal.SIGKILL, ["--record-budget", "20000"], 0),
            ("ends in order, its budget used up", [calls % (3000, "1 + i")], 0, ["--record-budget", "5000"], 0),
            ("forks without Python", [calls % (50, "1 + i"), "import ctypes", "time.sleep(1)", "if ctypes.PyDLL(None).fork() == 0:", "  " + calls % (1000, 7), "  os._exit(0)", "os.wait()", kill], -signal.SIGKILL, [], 0),
        ):
            with self.subTest(name):
                self.recording = self.folder / name.replace(" ", "-").replace(",", "")
                script = "import os, signal, time, torch\nfrom flashinfer import norm\n" + "\n".join(body)
                said = " ".join(run("record", "-o", self.recording, *options, "--", sys.executable, "-c", script, check=status, env=self.environment, timeout=100).stderr.split())
                shown = self.inspect()
                defects = {d["reason"]: d["count"] for d in shown["defects"]}
                self.assertNotIn("recording_not_ended", defects)
                if lost is None: self.assertEqual(shown["calls"] + defects.get("calls_lost", 0), 50, shown)
                else: self.assertEqual(defects.get("calls_lost", 0), lost, shown)
                self.assertEqual("made last by" in said, defects.get("calls_lost", 0) > 0, said)
                if options: self.assertIn("calls_over_budget", {**defects, **({"calls_over_budget": 1} if "5000" in options else {})})

    def kill(self, seed):
        """Kills an engine with -9 at a random moment. What was begun a second before is in the file."""
        folder = self.folder / f"killed{seed}"
        variables = json.loads(run("env", "--trace-dir", self.trace, "--definition-name", DECODE, "--capture", "recorder", "--json",
                                   check=0, env=self.environment, cwd=self.folder).stdout)[0]
        process = subprocess.Popen([sys.executable, SCENARIO, "forever"], stdout=subprocess.PIPE,
                                   env={**self.environment, **variables, "COLLECT_WORKLOADS_RECORD": str(folder)})
        first = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.6, 2.6))
        killed = time.monotonic_ns()
        process.kill()
        lines = [first, *process.stdout.read().splitlines()]
        process.stdout.close()
        process.wait()
        steps = [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]
        old = [size for size, begun in steps if begun < killed - 1_000_000_000]
        if not old: return 0
        seen = self.inspect(folder)["functions"]["BatchDecodeWithPagedKVCacheWrapper.plan"]
        self.assertGreaterEqual(seen["calls"], len(old))
        self.assertLessEqual(seen["calls"], len(steps) + 1)
        return len(old)

    def test_killed_a_hundred_times(self):
        with concurrent.futures.ThreadPoolExecutor(10) as pool: old = list(pool.map(self.kill, range(100)))
        self.assertGreater(sum(1 for count in old if count), 50)


if __name__ == "__main__":
    unittest.main()
