"""Files from strangers: datasets, recordings and dumps that somebody else has made, with care or by accident. Every command ends in
order, says what is wrong, lets no control character through, and takes little memory whatever it is given."""
import contextlib, http.server, json, os, pathlib, resource, signal, socket, struct, subprocess, sys, threading, time, unittest

from support import BINARY, SANITIZED, DatasetTest, run, unpack

DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
MOST_MEMORY = 256 << 10  # KB
SCALE = 20 if SANITIZED else 1  # a sanitizer takes its time: the same in small
CONTROLS = r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # with what turns the direction of writing


# CBOR by hand: what no library would write, too.
def head(major, value):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 24: return bytes([major << 5 | value])
        if value < 1 << 8 * size: return bytes([major << 5 | info]) + value.to_bytes(size, "big")


def cbor(value):
    if value is None or value is True or value is False: return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int): return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes): return head(2, len(value)) + value
    if isinstance(value, str): return head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict): return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())
    return head(4, len(value)) + b"".join(map(cbor, value))


# XXH3-64 is in no library of Python's own: the tool's own reader tells what a payload's checksum should be. So payloads are framed
# by a helper that the recorder's module offers to nobody; here it is written anew, for payloads of any length.
def xxh3_64(data):
    import ctypes, ctypes.util
    global _xxhash
    try:
        library = _xxhash
    except NameError:
        library = _xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
        library.XXH3_64bits.restype = ctypes.c_uint64
        library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


def frame(payload):
    return b"\x82\x48" + xxh3_64(payload).to_bytes(8, "big") + b"\xd8\x18\x5a" + struct.pack(">I", len(payload)) + payload


HEADER = {"record": "recording", "format": 1, "process": 1, "host": "h", "boot": "b", "started": 1}
SITE = {"record": "site", "site": 0, "function": "rmsnorm", "module": "flashinfer.norm", "signature": "(input, weight, eps)"}
FORM = {"record": "form", "form": 0, "site": 0, "arguments": [["input", {"dtype": "bfloat16", "shape": [2, 4096]}]]}


def recording(*payloads):
    return b"".join(map(frame, [*map(cbor, (HEADER, SITE, FORM)), *payloads]))


def hostile_recordings():
    """Name -> content; all checksums are right."""
    calls = lambda *groups: cbor({"record": "calls", "at": 0, "calls": list(groups)})
    group = {"form": 0, "count": 1}
    deep = 20_000_000 // SCALE
    yield "nested arrays", recording(b"\x81" * deep + b"\x80")
    yield "nested maps", recording(b"\xa1\x61a" * (deep // 3) + b"\x80")
    yield "nested in a form", recording(cbor({"record": "form", "form": 1, "site": 0})[:-1] + b"\x00" + b"\x81" * deep)
    yield "lengths left open", recording(b"\xbf\x66record\x65calls\xff", b"\x9f" * 1000 + b"\xff" * 1000)
    yield "promises of length", recording(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x9a\xff\xff\xff\xff")
    yield "many items", recording(head(4, 30_000_000 // SCALE) + b"\x01" * (30_000_000 // SCALE))
    yield "many empty maps", recording(cbor({"record": "calls"})[:-1] + head(4, 10_000_000 // SCALE) + b"\xa0" * (10_000_000 // SCALE))
    yield "many small frames", recording(*[b"\x01"] * (300_000 // SCALE))
    yield "many groups", recording(*[calls(*[group] * (5000 // SCALE))] * 40)
    yield "many forms", recording(*[cbor({"record": "form", "form": i, "site": 0, "arguments": []}) for i in range(1, 100_000 // SCALE)])
    yield "a long form", recording(cbor({"record": "form", "form": 1, "site": 0, "arguments": [["input", list(range(24)) * (20_000 // SCALE)]]}), calls({"form": 1, "count": 1}))
    # One form, long or wide, in many groups; many such forms; groups with more values than there are tensors.
    long = lambda number, items: cbor({"record": "form", "form": number, "site": 0, "arguments": [["input", [1] * items]]})
    once = lambda forms: calls(*[{"form": i, "count": 1} for i in forms])
    yield "a long form in many groups", recording(long(1, 20_000), calls(*[{"form": 1, "count": 1}] * 3000))
    yield "a form in many groups", recording(long(1, 500), calls(*[{"form": 1, "count": 1}] * 3000))
    yield "long forms", recording(*[long(i, 400_000 // SCALE) for i in range(1, 21)], once(range(1, 21)))
    yield "middling forms", recording(*[long(i, 500) for i in range(1, 3000)], once(range(1, 3000)))
    yield "wide forms", recording(*[cbor({"record": "form", "form": i, "site": 0, "arguments": [["a", None]] * 90_000}) for i in range(1, 12)], once(range(1, 12)))
    yield "texts in many groups", recording(cbor({"record": "form", "form": 1, "site": 0, "arguments": [["input", "x" * 60_000]]}), calls(*[{"form": 1, "count": 1}] * 3000))
    yield "many values", recording(*[calls(*[{"form": 0, "count": 1, "values": [{}] * 256}] * (1000 // SCALE))] * 60)
    # A plan for each of many wrappers: what it was given is held until the wrapper is planned again.
    plan = [cbor({**SITE, "site": 1, "function": "BatchDecodeWithPagedKVCacheWrapper.plan", "module": "flashinfer.decode", "signature": "(self, indptr, indices)"}),
            cbor({"record": "form", "form": 1, "site": 1, "arguments": [["indptr", "x" * 60_000]]}), cbor({"record": "form", "form": 2, "site": 1, "arguments": [["indptr", 1]]})]
    plans = lambda form, wrappers: calls(*[{"form": form, "count": 1, "wrapper": i + 1} for i in range(wrappers)])
    yield "long plans", recording(*plan, plans(1, 6000 // SCALE), calls({"form": 5, "count": 1}))
    yield "many plans", recording(*plan, plans(2, 100_000 // SCALE), calls({"form": 5, "count": 1}))
    yield "many sites", recording(*[cbor({**SITE, "site": i, "signature": "(" + ",".join(f"a{i}_{k}" for k in range(300)) + ")"}) for i in range(1, 5000)])
    yield "a long signature", recording(cbor({**SITE, "site": 1, "signature": "(" + "a," * (2_000_000 // SCALE) + ")"}))
    yield "long names", recording(cbor({**SITE, "site": 1, "function": "f" * 10_000_000, "module": "m" * 10_000_000, "version": "v" * 10_000_000}))
    yield "taken numbers", recording(cbor(SITE), cbor(FORM), calls(group))
    yield "counts past any", recording(calls(*[{"form": 0, "count": 1 << 48}] * (40_000 // SCALE)), calls({"form": 0, "count": (1 << 64) - 1}))
    yield "other hashes", recording(*[cbor({"hash": bytes([i]) * 16, "record": "values", "values": b"\x01\x00\x00\x00"}) for i in range(200)], calls(group))
    yield "tags and simple values", recording(b"\xc1\x01", b"\xf7", b"\xe0", b"\xf8\xff", b"\xff")
    yield "no recording", frame(cbor({"record": "calls"})) * 10
    yield "another format", frame(cbor({**HEADER, "format": 3}))
    yield "nothing but headers", frame(cbor(HEADER)) * (100_000 // SCALE)
    yield "a frame of a gigabyte", recording() + b"\x82\x48" + bytes(8) + b"\xd8\x18\x5a\x3f\xff\xff\xff" + b"x" * 100_000
    yield "odd types", recording(*[cbor({**base, key: odd}) for base in (SITE, FORM, {"record": "calls", "calls": [group]}, {"record": "end", "sites": []})
                                   for key in base for odd in (None, -1, "x", b"x", [], {}, (1 << 64) - 1, [[]], {"a": 1})])
    yield "odd groups", recording(calls(*[{**group, key: odd} for key in ("form", "count", "wrapper", "plan", "raised", "sequences", "values", "addresses", "dummy")
                                          for odd in (None, -1, "x", b"x", [], {}, (1 << 64) - 1, [[]], [{"tensor": -1}], [None] * 1000)]))


# Runs a command and writes to descriptor 3 how much memory it took at most, in KB. A process of its own, and a small one: until exec a
# child counts the pages of its parent as its own.
MEASURED = """import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, 3)])
_, status, usage = os.wait4(pid, 0)
os.write(3, str(usage.ru_maxrss).encode())
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)"""


def measured(*words, **options):
    """(process's result, its peak memory in KB)"""
    reader, writer = os.pipe()
    process = subprocess.run(["bash", "-c", 'exec 3>&"$0" "$@"', str(writer), sys.executable, "-ISc", MEASURED, BINARY, *map(str, words)], pass_fds=(writer,),
                             capture_output=True, **options)
    os.close(writer)
    with os.fdopen(reader) as file: return process, int(file.read() or 0)


class StrangersCase(DatasetTest):
    def tool(self, *words, most_seconds=60, statuses=(0, 1, 3), **options):
        """Ends in order and in time, with little memory."""
        process, peak = measured(*words, timeout=most_seconds * (10 if SANITIZED else 1), env={**os.environ, **options.pop("env", {})}, **options)
        self.assertIn(process.returncode, statuses, (words, process.stderr[-2000:]))
        if not SANITIZED: self.assertLess(peak, MOST_MEMORY, (words, "KB"))
        for stream in (process.stdout, process.stderr):
            for line in stream.decode().split("\n"): self.assertNotRegex(line, CONTROLS, words)
        return process.stdout.decode() + process.stderr.decode()

    def sanitized(self):
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))

    def commands(self, trace=None, checks=True):
        """Every command that reads a dataset."""
        trace = trace or self.trace
        out = self.folder / f"merged{time.monotonic_ns()}"
        state = {"XDG_STATE_HOME": str(self.folder / "state"), "HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9"}
        dumps = self.folder / "cpu-small"
        if not dumps.exists(): unpack("cpu-small", self.folder)
        return {"validate": ["validate", "--trace-dir", trace], "report": ["report", "--trace-dir", trace, "--out", self.folder / "r.html"],
                "report --format md": ["report", "--trace-dir", trace, "--format", "md"], "merge": ["merge", trace, "--out", out],
                "sanitize": ["sanitize", "--dumps", dumps, "--trace-dir", trace], "inspect": ["inspect", dumps, "--trace-dir", trace],
                "submit": ["submit", "--trace-dir", trace, "--dry-run"], "verify": ["verify", "--trace-dir", trace, "--python", "true"]}, state


class StrangersTest(StrangersCase):
    # ------------------------------------------------------------------------------------------------------ recordings

    def test_recordings_with_valid_checksums(self):
        names = []
        for name, content in hostile_recordings():
            names.append(name)
            path = self.folder / "hostile.cbor"
            path.write_bytes(content)
            with self.subTest(name):
                self.tool("inspect", path, most_seconds=20)
                shown = self.tool("sanitize", "--dumps", path, "--trace-dir", self.trace, "--json", "-q", most_seconds=20)
                # What is wrong with it is counted.
                if name not in ("many groups", "many forms", "long names", "nothing but headers", "a form in many groups", "middling forms", "texts in many groups"):
                    defects = {defect["name"] for defect in json.loads(shown)["defects"]}
                    self.assertTrue(defects - {"recording_not_ended"}, shown[:2000])
        self.assertGreater(len(names), 20)
        # And beside a real one, nothing of that is lost.
        whole = self.folder / "beside"
        whole.mkdir()
        (whole / "a.cbor").write_bytes(recording(b"\x81" * (20_000_000 // SCALE)))
        (whole / "b.cbor").write_bytes(recording(cbor({"record": "calls", "at": 0, "calls": [{"form": 0, "count": 7}]})))
        self.assertEqual(json.loads(self.tool("inspect", whole, "--json"))["functions"]["rmsnorm"]["calls"], 7)

    def test_values_of_another_width_than_their_tensor(self):
        """Numbers of four bytes in what says that it holds numbers of one: no workload is made of that."""
        from test_recorder import ENVIRONMENT, SCENARIO
        dumps = self.folder / "engine"
        run("record", "-o", dumps, "--", sys.executable, SCENARIO, "engine", check=0, env={**ENVIRONMENT, "XDG_CACHE_HOME": str(self.folder / "cache")})
        path = next(dumps.iterdir())
        out, rest, changed = b"", path.read_bytes(), 0
        while rest:
            size = struct.unpack(">I", rest[13:17])[0]
            payload, rest = rest[17:17 + size], rest[17 + size:]
            narrow = payload
            if b"\x67indices" in payload:
                place = payload.index(b"\x65int32", payload.index(b"\x67indices"))
                narrow = payload[:place] + b"\x64int8" + payload[place + 6:]
                changed += 1
            out += frame(narrow)
        self.assertGreater(changed, 0)
        path.write_bytes(out)
        shown = json.loads(self.tool("sanitize", "--dumps", path, "--trace-dir", self.trace, "--json", "-q", "--definition-name", DECODE))
        self.assertEqual(shown["definitions"][DECODE]["calls"], 0)
        self.assertIn("record_malformed", {defect["name"] for defect in shown["defects"]})

    def test_folders_and_files_in_each_others_places(self):
        """And what no other command would take: it is not valid."""
        self.sanitized()
        workloads = self.trace / f"workloads/gqa_paged/{DECODE}.jsonl"
        text = workloads.read_text()

        def check(name, code):
            with self.subTest(name):
                commands, env = self.commands()
                self.assertIn(code, self.tool(*commands["validate"], statuses=(1,)))
                for words in commands.values(): self.tool(*words, most_seconds=20, env=env)

        workloads.unlink()
        workloads.mkdir()
        check("a folder for workloads", "not_a_file")
        workloads.rmdir()
        workloads.write_text(text.replace('"uuid":"', '"uuid":"\\u0000', 1))
        check("a zero byte", "workload_invalid")
        workloads.write_text(text)
        (self.trace / "workloads/gqa_paged/nobody.jsonl").touch()
        check("nobody's", "workloads_misplaced")
        (self.trace / "workloads/gqa_paged/nobody.jsonl").unlink()
        folder = workloads.parent
        folder.rename(self.folder / "away")
        for make in (lambda: os.mkfifo(folder), lambda: folder.symlink_to("/etc/passwd"), lambda: folder.symlink_to("/nonexistent")):
            make()
            check("no folder", "not_a_folder")
            folder.unlink()
        (self.folder / "away").rename(folder)
        # A definition may lie anywhere below definitions/: all find it.
        self.trace = self.new_trace("elsewhere")
        self.sanitize(self.folder / "sglang-0.5.17-llama-ps1")
        definition = self.trace / f"definitions/gqa_paged/{DECODE}.json"
        (self.trace / "definitions/elsewhere").mkdir()
        definition.rename(self.trace / f"definitions/elsewhere/{DECODE}.json")
        commands, env = self.commands()
        for name in ("validate", "report", "merge"): self.tool(*commands[name], statuses=(0,), env=env)
        self.assertNotIn("not valid", self.tool(*commands["submit"], "--allow-unverified", env=env))

    def test_faults_without_number(self):
        self.sanitized()
        (self.trace / f"workloads/gqa_paged/{DECODE}.jsonl").write_text("{}\n" * (300_000 // SCALE))
        for more in ([], ["--json"]):
            said = self.tool("validate", "--trace-dir", self.trace, *more, statuses=(1,))
            self.assertIn(f"and {300_000 // SCALE - 20} more like it", said)
            self.assertLess(len(said), 1 << 20)

    def test_links_to_folders(self):
        """What lies behind one is not looked at, so it is not valid; nothing follows it in circles."""
        self.sanitized()
        for place, target in (("workloads/loop", ".."), ("blob/loop", "."), ("definitions/loop", "../definitions")):
            (self.trace / place).symlink_to(target)
            commands, env = self.commands()
            self.assertIn("is a link to a folder", self.tool(*commands["validate"], statuses=(1,)))
            for words in commands.values(): self.tool(*words, most_seconds=20, env=env)
            (self.trace / place).unlink()
        (self.trace / "workloads").rename(self.folder / "elsewhere")
        (self.trace / "workloads").symlink_to(self.folder / "elsewhere")
        self.assertIn("leads out of the dataset", self.tool(*self.commands()[0]["validate"], statuses=(1,)))

    def test_memory_is_a_small_multiple_of_a_recording(self):
        if SANITIZED: self.skipTest("a sanitizer has memory of its own")
        def peak(content):
            path = self.folder / "r.cbor"
            path.write_bytes(content)
            return measured("inspect", path, "--json")[1] * 1024
        empty = peak(recording())
        names = {"many groups", "many forms", "many items", "many empty maps", "many small frames", "many sites"}
        for name, content in hostile_recordings():
            if name not in names: continue
            names.remove(name)
            self.assertLess(peak(content) - empty, 16 * len(content) + (16 << 20), name)
        self.assertEqual(names, set())

    # --------------------------------------------------------------------------------------------------------- datasets

    def test_what_is_no_regular_file(self):
        """A FIFO, a device or a socket in the place of a file: nothing waits for it."""
        self.sanitized()
        workloads = self.trace / f"workloads/gqa_paged/{DECODE}.jsonl"
        blob = next((self.trace / "blob").rglob("*.safetensors"))
        for place in (self.trace / "collection.json", self.trace / "verification.json", workloads, blob, self.trace / f"definitions/gqa_paged/{DECODE}.json",
                      self.trace / ".collect-workloads.journal"):
            content = place.read_bytes() if place.exists() else None
            for kind in ("fifo", "device"):
                if content is not None or place.exists(): place.unlink()
                if kind == "fifo": os.mkfifo(place)
                else: place.symlink_to("/dev/zero")
                with self.subTest(place.name, kind=kind):
                    commands, env = self.commands()
                    for name, words in commands.items():
                        said = self.tool(*words, most_seconds=20, env=env)
                        if name == "validate" and place.name != ".collect-workloads.journal": self.assertIn("not valid", said)
            place.unlink(missing_ok=True)
            if content is not None: place.write_bytes(content)
            else: place.unlink(missing_ok=True)
        self.assertIn("valid:", self.tool("validate", "--trace-dir", self.trace, statuses=(0,)))
        for kind in ("prompts", "recipes", "bindings"):
            fifo = self.folder / kind
            os.mkfifo(fifo)
            self.tool("collect", "--trace-dir", self.trace, "--engine", "simulated", "--definition-name", DECODE, f"--{kind}", fifo, "--dry-run", most_seconds=20)

    def test_valid_means_that_every_command_works(self):
        """validate looks at what lies beside the workloads as those who read it do."""
        self.sanitized()
        section = json.loads((self.trace / "collection.json").read_text())["captures"][0]
        broken = {
            "collection.json": ["", "{", "[]", "{}", '{"captures": {}}', '{"captures": [5]}', '{"captures": [{}]}', '{"captures": [{"id": "a", "definitions": 5}]}',
                                '{"captures": [{"id": "a", "definitions": {"x": 5}}]}', "[" * 100_000, '{"captures": [' + "[" * 70 + "]" * 70 + "]}", "\xff"],
            "verification.json": ["", "{", "[]", "{}", '{"definitions": 5}', "[" * 100_000]}
        readers = {"collection.json": ("report", "merge", "sanitize", "submit"), "verification.json": ("report", "submit")}
        for name, contents in broken.items():
            before = (self.trace / name).read_bytes() if (self.trace / name).exists() else None
            for content in contents:
                (self.trace / name).write_text(content, encoding="latin-1")
                with self.subTest(name, content=content[:60]):
                    commands, env = self.commands()
                    self.assertIn("not valid", self.tool(*commands["validate"], statuses=(1,)))
                    for reader in readers[name]: self.tool(*commands[reader], statuses=(1,), env=env)
            (self.trace / name).unlink()
            if before is not None: (self.trace / name).write_bytes(before)
        # Odd, and yet of use to all of them.
        for content in ({"format": 1, "captures": []}, {"captures": [{"id": "a"}]}, {"captures": [{"id": "a", "run": 5, "functions": [], "defects": {}, "definitions": {}}]},
                        {"captures": [{**section, "run": {"traffic": [], "timeline": 7, "command": {"a": 1}, "schedules": "x"}}]}):
            (self.trace / "collection.json").write_text(json.dumps(content))
            commands, env = self.commands()
            for name in ("validate", "report", "report --format md", "merge", "sanitize", "inspect"): self.tool(*commands[name], statuses=(0,), env=env)

    def test_objects_with_many_keys_and_long_lines(self):
        self.sanitized()
        workloads = self.trace / f"workloads/gqa_paged/{DECODE}.jsonl"
        lines = workloads.read_text()
        many = {f"key {i}": i for i in range(200_000 // SCALE)}
        section = json.loads((self.trace / "collection.json").read_text())["captures"][0]
        cases = {
            "collection.json, keys": (self.trace / "collection.json", json.dumps({"captures": [section], **many})),
            "collection.json, definitions": (self.trace / "collection.json", json.dumps({"captures": [{**section, "definitions": {k: {} for k in many}}]})),
            "collection.json, run": (self.trace / "collection.json", json.dumps({"captures": [{**section, "run": many}]})),
            "collection.json, long texts": (self.trace / "collection.json", json.dumps({"captures": [{**section, "run": {f"key {i}": "x" * 60_000 for i in range(1500 // SCALE)}}]})),
            "collection.json, long keys": (self.trace / "collection.json", json.dumps({"captures": [{**section, "definitions": {"x" * 60_000 + str(i): {} for i in range(1500 // SCALE)}}]})),
            "collection.json, distributions": (self.trace / "collection.json", json.dumps({"captures": [{**section, "definitions": {k: {"distribution": {"axes": {"a": {"calls": [[i, 1] for i in range(3000)]}}}} for k in list(many)[:2000 // SCALE]}}]})),
            "collection.json, others' workloads": (self.trace / "collection.json", '{"captures": [{"id": "a", "definitions": {"x": {"workloads": [' + ",".join('{"uuid":"%d"}' % i for i in range(3_000_000 // SCALE)) + "]}}}]}"),
            "collection.json, arrays": (self.trace / "collection.json", '{"captures": [], "x": [' + "[]," * (3_000_000 // SCALE) + "0]}"),
            "collection.json, workloads": (self.trace / "collection.json", json.dumps({"captures": [{**section, "definitions": {DECODE: {"calls": 1, "workloads": [{"uuid": str(i), "seen": 1} for i in range(300_000 // SCALE)]}}}]})),
            "verification.json, keys": (self.trace / "verification.json", json.dumps({"definitions": {k: {} for k in many}})),
            "workloads, keys": (workloads, lines + json.dumps({"definition": DECODE, "workload": {"uuid": "u", "axes": {f"a{i}": i for i in range(40_000)}, "inputs": {}}}) + "\n"),
            "workloads, a long line": (workloads, lines + json.dumps({"definition": DECODE, "workload": {"uuid": "u" * (2 << 20)}}) + "\n"),
            "workloads, no end of a line": (workloads, "x" * ((300 << 20) // SCALE)),
            "a definition": (self.trace / "definitions/gqa_paged/other.json", json.dumps({"name": "other", "op_type": "gqa_paged", "axes": {k: {"type": "var"} for k in many}, "inputs": {}, "outputs": {}, "reference": ""})),
        }
        for name, (path, content) in cases.items():
            before = path.read_bytes() if path.exists() else None
            path.write_text(content)
            with self.subTest(name):
                commands, env = self.commands()
                for words in commands.values(): self.tool(*words, most_seconds=30, env=env)
            path.unlink()
            if before is not None: path.write_bytes(before)

    def test_nothing_reaches_the_terminals_controls(self):
        """Names and texts of others with escape sequences in them, in every place that is shown."""
        self.sanitized()
        evil = "a\x1b]0;x\x07\x1b[2Jb\x9bc\u202e\u2066\x7f"
        path = self.trace / f"definitions/gqa_paged/{DECODE}.json"
        definition = json.loads(path.read_text())
        (self.trace / "definitions/gqa_paged/evil.json").write_text(json.dumps({**definition, "name": evil, "description": evil}))
        lines = (self.trace / f"workloads/gqa_paged/{DECODE}.jsonl")
        first = json.loads(lines.read_text().splitlines()[0])
        first["workload"].update(uuid=evil, axes={**first["workload"]["axes"], evil: evil})
        with lines.open("a") as file: file.write(json.dumps(first) + "\n" + json.dumps({"definition": evil, "workload": {"uuid": evil}}) + "\n")
        collection = json.loads((self.trace / "collection.json").read_text())
        section = collection["captures"][0]
        section["functions"][evil] = {"calls": 5, "bound": 0, "rejected": 5, "skipped": 0}
        section["defects"].append({"name": evil, "severity": evil, "count": 3, "function": evil, "detail": evil, "example": evil})
        section["run"] = {"engine": evil, "model": evil, "version": evil, "command": [evil, "--x", evil], "traffic": {"errors": {evil: 3}}}
        (self.trace / "collection.json").write_text(json.dumps(collection))
        commands, env = self.commands()
        for words in commands.values():
            self.tool(*words, env=env)
            if words[0] != "merge": self.tool(*words, "--json", env=env)
        shown = self.tool("report", "--trace-dir", self.trace, "--json", statuses=(0,))
        self.assertIn("\\u001b", shown, "as JSON has it")
        self.tool("sanitize", "--dumps", f"/nowhere{evil}".replace("\0", ""), "--trace-dir", self.trace, statuses=(1,))
        self.tool("sanitize", f"--{evil}", statuses=(2,))
        self.tool(f"x{evil}", statuses=(2,))

    # ------------------------------------------------------------------------------------------------------------ dumps

    def test_records_of_dumps_that_ask_for_much(self):
        dumps = unpack("cpu-small", self.folder)
        call = next(p for p in sorted(dumps.iterdir()) if "rmsnorm_call0001" in p.name)
        record = json.loads((call / "metadata.jsonl").read_text().splitlines()[-1])
        for name, change in {"many values": {"input_metadata": {"arg_9": {"type": "list", "items": list(range(2_000_000))}}},
                             "deep": {"input_metadata": {"arg_9": None}}, "many tensors": {"tensor_details": {f"arg_{i}": {"shape": [1] * 20, "dtype": "torch.int32"} for i in range(100_000)}},
                             "long": {"function_signature": "x" * (20 << 20)}, "many parameters": {"function_signature": "(" + "a," * 1_000_000 + ")"}}.items():
            text = json.dumps({**record, **change})
            if name == "deep": text = text.replace('"arg_9": null', '"arg_9": ' + '{"type": "list", "items": [' * 100_000 + "]}" * 100_000)
            (call / "metadata.jsonl").write_text(text + "\n")
            with self.subTest(name):
                said = json.loads(run("sanitize", "--dumps", dumps, "--trace-dir", self.trace, "--json", "--dry-run", check=0).stdout)
                self.assertTrue({d["name"] for d in said["defects"]} & {"metadata_malformed", "signature_malformed", "tensors_missing"}, said["defects"])


class StrangersTrafficTest(StrangersCase):
    # ---------------------------------------------------------------------------------------------------------- prompts

    def test_prompt_files(self):
        """What makes much of little: lengths, batches with a system's prompt, columns, turns, names without number."""
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *_): pass
            def do_GET(self): self.answer(b"{}")
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                while length > 0: length -= len(self.rfile.read(min(length, 1 << 20)))
                self.answer(b'data: {"text": "x", "meta_info": {"prompt_tokens": 1, "completion_tokens": 1}}\n\ndata: [DONE]\n\n')
            def answer(self, body):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.shutdown)
        n = SCALE
        turns = [{"role": ("user", "assistant")[i % 2], "content": "x"} for i in range(300)]
        turns[0]["tool_calls"] = [0] * (200_000 // n)
        cases = {
            "lengths": '{"input_length":1000000,"output_length":1}\n' * (100 // n),
            "too long": '{"input_length":16000000,"output_length":1}\n{"prompt":"x"}\n',
            "a batch": json.dumps({"system": "s" * (1_000_000 // n), "prompt": ["a"] * 2000}),
            "columns": "a,b\n" + "," * (20_000_000 // n),
            "a row without end": 'a,b\n"' + 'x\n","' * (20_000_000 // n),
            "a header": ",".join(f"c{i}" for i in range(60_000)) + "\n" + ",".join("1" * 60_000) + "\n",
            "turns": json.dumps({"messages": turns}),
            "questions": json.dumps({"system": "s" * (500_000 // n), "turns": ["a"] * 2000}),
            "parts": json.dumps({"messages": [{"role": "user", "content": [{"type": f"t{i}"} for i in range(200_000 // n)] + ["x"]}]}),
            "one record": json.dumps({"prompt": "x" * ((7 << 20) // n)}),
            "one broken record": '{"prompt":"' + "x" * ((7 << 20) // n) + '"',
            "a long record": json.dumps({"prompt": "x" * ((30 << 20) // n)}),
        }
        for name, content in cases.items():
            for more in ([], ["--turns", "all"]):
                with self.subTest(name, more=more):
                    path = self.folder / "prompts"
                    path.write_text(content)
                    said = self.tool("drive", "--url", f"http://127.0.0.1:{server.server_address[1]}", "--prompts", path, "--num-prompts", "20", *more, most_seconds=60)
                    self.assertLess(len(said), 20_000)

    def test_what_servers_say_is_shown_without_secrets(self):
        secret = "sk-" + "Zq00x9Kv7Rw3" * 3
        body = json.dumps({"error": f"Incorrect API key: {secret}"}).encode()
        for answer in (b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                def serve():
                    with contextlib.suppress(OSError):
                        while True:
                            connection, _ = listener.accept()
                            with connection:
                                connection.recv(1 << 16)
                                connection.sendall(answer)
                thread = threading.Thread(target=serve, daemon=True)
                thread.start()
                for more in ([], ["--json"]):
                    said = self.tool("drive", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--random-prompts", "--num-prompts", "2", "--endpoint", "generate",
                                     "--api-key", secret, *more, statuses=(1,))
                    self.assertNotIn("Zq00x9Kv7Rw3", said)

    # ---------------------------------------------------------------------------------------------------------- servers

    def serve(self, *flags, limit=None):
        preexec = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) if limit else None
        server = subprocess.Popen([BINARY, "serve", "--model-name", "llama-3.1-8b", "--port", "31985", "-q", *flags], stderr=subprocess.PIPE, text=True, preexec_fn=preexec)
        self.addCleanup(server.stderr.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertIn("ready to roll", server.stderr.readline())
        return server

    @staticmethod
    def cpu(pid):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_serve_without_descriptors_does_not_spin(self):
        import socket, urllib.request
        if SANITIZED: self.skipTest("UndefinedBehaviorSanitizer looks at memory through pipes, for which there are no descriptors")
        server = self.serve(limit=40)
        clients = [socket.create_connection(("127.0.0.1", 31985)) for _ in range(80)]
        time.sleep(0.5)
        before = self.cpu(server.pid)
        time.sleep(2)
        self.assertLess(self.cpu(server.pid) - before, 0.5, "of two seconds")
        for client in clients: client.close()
        for _ in range(50):  # until it has noticed that they are gone
            try:
                with urllib.request.urlopen("http://127.0.0.1:31985/health", timeout=10) as answer: status = answer.status
                break
            except OSError: time.sleep(0.2)
        self.assertEqual(status, 200)

    def test_serve_and_clients_that_do_not_read(self):
        import socket
        server = self.serve("--decode-step-ms", "0.05")
        body = json.dumps({"text": "x " * 50, "stream": True, "sampling_params": {"max_new_tokens": 8000}}).encode()
        clients = []
        for _ in range(40):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", 31985))
            client.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            clients.append(client)
        # And some that announce much and send nothing.
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", 31985))
            client.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
            clients.append(client)
        time.sleep(6)
        peak = next(int(line.split()[1]) for line in pathlib.Path(f"/proc/{server.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
        if not SANITIZED: self.assertLess(peak, MOST_MEMORY)
        for client in clients: client.close()
        server.terminate()
        self.assertEqual(server.wait(timeout=20), 0, server.stderr.read())

    def test_serve_ends_while_clients_wait(self):
        """For an answer, for room to send more of it, and with a request half sent."""
        import socket
        server = self.serve()
        body = json.dumps({"text": "x " * 50, "stream": True, "sampling_params": {"max_new_tokens": 8000}}).encode()
        head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for request in (head + body, head + body[:20], head[:20], b""):
            client = socket.create_connection(("127.0.0.1", 31985))
            self.addCleanup(client.close)
            client.sendall(request)
        time.sleep(0.5)
        server.terminate()
        self.assertEqual(server.wait(timeout=20), 0, server.stderr.read())

    def test_drive_hears_ctrl_c_whatever_the_server_sends(self):
        import socket, threading
        for begin, piece in ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a" * 65536), (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65536),
                             (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\n: alive\n\n\r\n" * 4000), (b"HTTP/1.1 200 OK\r\n\r\n", b": alive\n\n" * 8000),
                             (b"HTTP/1.1 500 No\r\n\r\n", b"a" * 65536)):
            listener = socket.create_server(("127.0.0.1", 0))
            is_over = threading.Event()

            def answer(connection, number):
                try:
                    request = connection.recv(1 << 16)
                    if b"GET" in request: return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    connection.sendall(begin)
                    while not is_over.is_set(): connection.sendall(piece)
                except OSError: pass
                finally: connection.close()

            def accept():
                while True:
                    try: connection, _ = listener.accept()
                    except OSError: return
                    threading.Thread(target=answer, args=(connection, 0), daemon=True).start()

            threading.Thread(target=accept, daemon=True).start()
            drive = subprocess.Popen([BINARY, "drive", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--random-prompts", "--num-prompts", "100000", "--concurrency", "4", "--json"],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(1.5)
            begun = time.time()
            drive.send_signal(signal.SIGINT)
            drive.communicate(timeout=30)
            self.assertLess(time.time() - begun, 2 if not SANITIZED else 10, begin)
            is_over.set()
            listener.close()


    def test_single_requests_whose_headers_have_no_end(self):
        """Before the body, and behind the last chunk."""
        import socket, threading
        self.sanitized()
        for begin in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: "):
            listener = socket.create_server(("127.0.0.1", 0))

            def answer():
                while True:
                    try: connection, _ = listener.accept()
                    except OSError: return
                    try:
                        connection.recv(1 << 16)
                        connection.sendall(begin)
                        for _ in range(20_000): connection.sendall((b"y" if begin.endswith(b" ") else b"X: y\r\n") * 10_000)
                    except OSError: pass
                    finally: connection.close()

            threading.Thread(target=answer, daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            said = self.tool("drive", "--url", url, "--random-prompts", "--num-prompts", "3", statuses=(1,), most_seconds=20)
            self.assertIn("headers do not end", said)
            self.tool("submit", "--trace-dir", self.trace, "--dry-run", "--allow-unverified", statuses=(1,), most_seconds=60, env={"HF_TOKEN": "hf_x", "HF_ENDPOINT": url})
            listener.close()


if __name__ == "__main__": unittest.main()
