"""What the integration tests share: the binary, packed dumps, datasets, and a way to read what was made."""
import faulthandler, hashlib, json, os, pathlib, shutil, struct, subprocess, tarfile, tempfile, unittest

DATA = pathlib.Path(__file__).parent.parent / "data"
BINARY = os.environ["COLLECT_WORKLOADS"]
SANITIZED = "CW_SANITIZED" in os.environ  # some ten times slower
if "CW_TEST_SECONDS" in os.environ: faulthandler.dump_traceback_later(int(os.environ["CW_TEST_SECONDS"]))


def run(*arguments, check=None, **options):
    """Runs the binary; with `check`, the exit status must be that."""
    more = os.environ.get("CW_OPTIONS", "").split()  # of tools/test-threads
    words = list(map(str, arguments))
    result = subprocess.run([BINARY, *words[:1], *more, *words[1:]], capture_output=True, text=True, **options)
    if check is not None and result.returncode != check:
        raise AssertionError(f"{arguments}: exit status {result.returncode}, not {check}\n{result.stdout}{result.stderr}")
    return result


def unpack(name, folder):
    with tarfile.open(DATA / f"{name}.tar.gz") as tar: tar.extractall(folder)
    return pathlib.Path(folder) / name


def keep_for_judge(*traces):
    """Puts what a test made aside for judge.py, where validate calls it valid."""
    if "CW_JUDGED" not in os.environ: return
    for trace in map(pathlib.Path, traces):
        lines = sum(file.read_bytes().count(b"\n") for file in trace.glob("workloads/**/*.jsonl") if file.is_file())
        if not 0 < lines <= 500: continue
        try:
            if run("validate", "--trace-dir", trace, timeout=60).returncode == 0:
                shutil.copytree(trace, tempfile.mkdtemp(dir=pathlib.Path(os.environ["CW_JUDGED"]).mkdir(exist_ok=True) or os.environ["CW_JUDGED"]), dirs_exist_ok=True,
                                ignore=lambda folder, names: [n for n in names if folder == str(trace) and n not in ("definitions", "workloads", "blob")])
        except (OSError, shutil.Error, subprocess.TimeoutExpired):
            pass


def records(path):
    """The records of a recording, as docs/recording.md describes them; checksums are not looked at."""
    data, at = path.read_bytes(), 0

    def item():
        nonlocal at
        major, low = data[at] >> 5, data[at] & 31
        at += 1
        size = 1 << (low - 24) if 24 <= low < 28 else 0
        number, raw = int.from_bytes(data[at:at + size], "big") if size else low, data[at:at + size]
        at += size
        if major == 0: return number
        if major == 1: return -1 - number
        if major in (2, 3):
            at += number
            return data[at - number:at] if major == 2 else data[at - number:at].decode()
        if major == 4: return [item() for _ in range(number)]
        if major == 5: return {item(): item() for _ in range(number)}
        if major == 6: return item()
        return {20: False, 21: True, 22: None}[low] if low < 24 else struct.unpack({2: ">e", 4: ">f", 8: ">d"}[size], raw)[0]

    payloads = []
    while at < len(data): payloads.append(item()[1])
    for data in payloads:
        at = 0
        yield item()


def tree(root):
    """Relative path -> SHA-256 of every file."""
    root = pathlib.Path(root)
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def workloads(trace):
    """Definition -> the workload objects of its file."""
    return {p.stem: [json.loads(line)["workload"] for line in p.read_text().splitlines()]
            for p in (pathlib.Path(trace) / "workloads").rglob("*.jsonl")}


def tensor(trace, spec):
    """A stored tensor, as a list."""
    data = (pathlib.Path(trace) / spec["path"]).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + length])[spec["tensor_key"]]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    return list(memoryview(data[begin:end]).cast({"I32": "i", "I64": "q", "F32": "f"}[entry["dtype"]]))


class DatasetTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.folder = pathlib.Path(self._folder.name)
        self.traces = []
        self.addCleanup(lambda: keep_for_judge(*self.traces))
        self.trace = self.new_trace("trace")

    def new_trace(self, name):
        trace = self.folder / name
        trace.mkdir()
        unpack("definitions", trace)
        self.traces.append(trace)
        return trace

    def sanitize(self, dumps, *options, trace=None, check=0):
        return json.loads(run("sanitize", "--input", dumps, "--trace-dir", trace or self.trace, "--json", *options, check=check).stdout)
