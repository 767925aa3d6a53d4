"""The wheel and the tarball as people get them: installed alone, elsewhere, by a user who is not root.

  CW_DIST=build/dist CW_ROOTS=build/roots python3 tests/packaging/test_wheel.py

CW_ROOTS has what packaging/root made: trixie, bullseye; arm64 when the packages of that architecture are tried, by qemu. CW_LOADER_PYTHON has
flashinfer-bench, for verify. With CW_SAID, what was run and what it printed is appended to that file.
"""
import contextlib, json, os, pathlib, platform, re, shutil, subprocess, sys, tarfile, tempfile, time, unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DIST, ROOTS = pathlib.Path(os.environ["CW_DIST"]).resolve(), pathlib.Path(os.environ["CW_ROOTS"]).resolve()
DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
USER = 65534  # nobody
SCRIPT = """
import torch
from flashinfer import norm
for i in range(12): norm.rmsnorm(torch.empty(1 + i % 3, 4096), torch.empty(4096), 1e-5)
"""


def only(pattern):
    (found,) = DIST.glob(pattern)
    return found


class Box:
    """A home of somebody who is not root, on this system or in another's root."""

    def __init__(self, test, root=None, emulated=None):
        self.root = root
        self.entry = ([f"/usr/sbin/chroot", f"--userspec={USER}:{USER}", root] if root else
                      ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"])
        if emulated: self.entry += [SOURCE / "packaging/emulated", emulated]
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="home-", dir=root / "tmp" if root else None))
        test.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.inside = pathlib.Path("/", self.home.relative_to(root)) if root else self.home
        (self.home / "trace").mkdir()
        with tarfile.open(SOURCE / "tests/data/definitions.tar.gz") as tar: tar.extractall(self.home / "trace")
        shutil.copytree(SOURCE / "tests/integration/fakes", self.home / "fakes", ignore=shutil.ignore_patterns("__pycache__"))
        (self.home / "script.py").write_text(SCRIPT)
        self.path = f"{self.inside}/env/bin:/usr/bin:/bin"
        self.environment = {}
        self.own()

    def own(self):
        subprocess.run(["chown", "-R", f"{USER}:{USER}", self.home], check=True)
        self.home.chmod(0o755)

    def run(self, command, check=0, **more):
        """A line for a shell, in the home."""
        words = ["sh", "-c", f"cd {self.inside} && {command}"]
        environment = {"HOME": str(self.inside), "PATH": self.path, "LANG": "C.UTF-8", "TMPDIR": str(self.inside)} | self.environment | more
        result = subprocess.run([*self.entry, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        if "CW_SAID" in os.environ:
            with open(os.environ["CW_SAID"], "a") as file:
                file.write(f"$ {command}\n{result.stdout}".replace(str(self.inside), "~"))
        if result.returncode != check: raise AssertionError(f"{command}: exit status {result.returncode}, not {check}\n{result.stdout}")
        return result.stdout


class Installed(unittest.TestCase):
    def say(self, text):
        if "CW_SAID" in os.environ:
            with open(os.environ["CW_SAID"], "a") as file: file.write(f"\n## {text}\n\n")

    def main_job(self, box, tool="collect-workloads", python="python3"):
        """From nothing to a report: an engine, a recording of a script, a dataset of both."""
        self.assertRegex(box.run(f"{tool} --version"), r"^collect-workloads \d+\.\d+\.\d+\n$")
        box.run(f"{tool} collect --trace-dir trace --definition-name {DECODE} --engine simulated --num-prompts 5 -q")
        if python:
            box.run(f"{tool} record -o recording -- {python} script.py", PYTHONPATH="fakes")
            box.run(f"{tool} sanitize --dumps recording --trace-dir trace --definition-name rmsnorm_h4096")
            capture = next(c for c in json.loads((box.home / "trace/collection.json").read_text())["captures"] if c["source"] == "recorder")
            self.assertEqual(capture["definitions"]["rmsnorm_h4096"]["calls"], 12)
            self.assertEqual(len((box.home / "trace/workloads/rmsnorm/rmsnorm_h4096.jsonl").read_text().splitlines()), 3)
        self.assertIn("valid: ", box.run(f"{tool} validate --trace-dir trace"))
        box.run(f"{tool} report --trace-dir trace --out report.html")
        self.assertIn(DECODE, (box.home / "report.html").read_text())
        # What it has left is where it should be, and is taken away.
        self.assertIn("KB", box.run(f"{tool} clean --all"))
        self.assertEqual([path for path in box.home.rglob(".cache/collect-workloads/*")], [])

    def install(self, box, python):
        wheel = shutil.copy(only(f"*_{platform.machine()}.whl"), box.home)
        box.own()
        box.run(f"{python} -m venv env")
        box.run(f"env/bin/pip install -q --no-index --disable-pip-version-check {os.path.basename(wheel)}")

    # ------------------------------------------------------------------------------------------------------- x86-64

    def test_into_an_empty_environment_of_each_python(self):
        # Those that this user has, too, where everybody may look: a home is nobody else's.
        others = {path.name: path for path in sorted(pathlib.Path.home().glob(".pyenv/versions/3.1*"))}
        for version, folder in {"3.11": None, **others}.items():
            with self.subTest(version):
                self.say(f"Debian 12, Python {version}, an ordinary user")
                box = Box(self)
                with contextlib.ExitStack() as stack:
                    seen = stack.enter_context(elsewhere(folder)) if folder else pathlib.Path("/usr")
                    if folder: box.environment["LD_LIBRARY_PATH"] = f"{seen}/lib"
                    self.install(box, seen / "bin/python3")
                    self.main_job(box, python="env/bin/python")

    def test_with_uv(self):
        uv = shutil.which("uv", path=os.environ.get("CW_UV_PATH", os.environ["PATH"]))
        if uv is None: self.skipTest("no uv: CW_UV_PATH names its folder")
        self.say("uv tool install, an ordinary user")
        box = Box(self)
        shutil.copy(uv, box.home / "uv")
        wheel = shutil.copy(only(f"*_{platform.machine()}.whl"), box.home)
        box.own()
        box.run(f"./uv tool install -q --offline --no-index --python /usr/bin/python3 ./{os.path.basename(wheel)}")
        self.assertIn("collect-workloads 0", box.run(".local/bin/collect-workloads --version"))

    def test_what_comes_with_it(self):
        box = Box(self)
        self.install(box, "/usr/bin/python3")
        share = box.home / "env/share"
        for name in ("man/man1/collect-workloads.1.gz", "man/man1/collect-workloads-collect.1.gz", "bash-completion/completions/collect-workloads",
                     "zsh/site-functions/_collect-workloads", "fish/vendor_completions.d/collect-workloads.fish", "collect-workloads/recorder.yaml", "collect-workloads/skills/collect-workloads/SKILL.md"):
            self.assertTrue((share / name).is_file(), name)
        licenses = next(box.home.glob("env/lib/python*/site-packages/collect_workloads-*.dist-info/licenses"))
        self.assertLessEqual({"LICENSE", "curl.txt", "onetbb.txt", "libssl.txt", "simdjson.txt", "gcc-12-base.txt"}, {path.name for path in licenses.iterdir()})
        box.run("env/bin/pip uninstall -q -y collect-workloads")
        self.assertFalse((box.home / "env/bin/collect-workloads").exists() or (share / "man/man1/collect-workloads.1.gz").exists())

    def test_it_starts_at_once(self):
        """Beside a Python that does nothing, in turns: the least of ten each."""
        box = Box(self)
        self.install(box, "/usr/bin/python3")
        def least(*command):
            times = []
            for _ in range(10):
                begin = time.perf_counter()
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                times.append(time.perf_counter() - begin)
            return min(times) * 1000
        tool, python = least(box.home / "env/bin/collect-workloads", "--version"), least("/usr/bin/python3", "-c", "pass")
        self.say(f"Start: {tool:.1f} ms; python3 -c pass: {python:.1f} ms")
        self.assertLess(tool, 50)

    def test_verify(self):
        loader = os.environ.get("CW_LOADER_PYTHON")
        if not loader: self.skipTest("CW_LOADER_PYTHON has flashinfer-bench")
        box = Box(self)
        self.install(box, "/usr/bin/python3")
        subprocess.run([box.home / "env/bin/collect-workloads", "collect", "--trace-dir", box.home / "trace", "--definition-name", DECODE, "--engine", "simulated",
                        "--num-prompts", "3", "-q"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "XDG_STATE_HOME": str(box.home / "state")})
        said = json.loads(subprocess.run([box.home / "env/bin/collect-workloads", "verify", "--trace-dir", box.home / "trace", "--python", loader, "--json", "-q"],
                                         check=True, capture_output=True, text=True).stdout)
        self.assertTrue(said["passed"])
        self.assertGreater(said["definitions"][DECODE]["loaded"], 0)

    def test_in_debian_13(self):
        root = ROOTS / "trixie"
        if not root.exists(): self.skipTest("packaging/root trixie makes it")
        self.say("Debian 13 (chroot), its Python 3.13, an ordinary user")
        with mounted(root):
            box = Box(self, root)
            self.install(box, "python3")
            self.main_job(box, python="env/bin/python")

    def test_in_debian_11_from_the_tarball(self):
        """Its pip takes no wheels of so new a C library; what is in them asks for less. Its Python is too old to be recorded, and says so."""
        root = ROOTS / "bullseye"
        if not root.exists(): self.skipTest("packaging/root bullseye makes it")
        self.say("Debian 11 (chroot), the tarball, an ordinary user")
        with mounted(root):
            box = Box(self, root)
            shutil.copy(only(f"*-{platform.machine()}.tar.gz"), box.home)
            box.own()
            box.run("tar xzf collect-workloads-*.tar.gz && mv collect-workloads-*/ here")
            self.main_job(box, tool="here/bin/collect-workloads", python="")
            self.assertIn("nothing was recorded", " ".join(box.run("here/bin/collect-workloads record -o recording -- python3 script.py", PYTHONPATH="fakes").split()))
            # The recorder itself is loaded by this C library.
            module = next(box.home.glob(".cache/collect-workloads/recorder-*/*.so")).relative_to(box.home)
            self.assertIn("loaded", box.run(f"python3 -c \"import ctypes, os; ctypes.CDLL('./{module}', mode=os.RTLD_LAZY); print('loaded')\""))

    # -------------------------------------------------------------------------------------------------------- arm64

    def test_arm64_under_qemu(self):
        """The wheel of the other architecture, and an arm64 Python that it records."""
        root = ROOTS / "arm64"
        if not root.exists() or not list(DIST.glob("*_aarch64.whl")): self.skipTest("tools/wheel aarch64 and packaging/root arm64 make them")
        if subprocess.run([SOURCE / "packaging/emulated", root, "true"], stderr=subprocess.DEVNULL).returncode == 77: self.skipTest("this Linux has no binfmt_misc in namespaces (6.7)")
        self.say("arm64 under qemu-user, an ordinary user")
        box = Box(self, emulated=root)
        wheel = shutil.copy(only("*_aarch64.whl"), box.home)
        box.own()
        box.run("/usr/bin/python3 -m venv env")
        box.run(f"env/bin/pip install -q --no-index --disable-pip-version-check --only-binary=:all: --platform manylinux_2_34_aarch64 --target here {os.path.basename(wheel)}")
        self.assertEqual(box.run(f"{root}/usr/bin/python3.11 -c 'import platform; print(platform.machine())'"), "aarch64\n")
        self.main_job(box, tool="here/bin/collect-workloads", python=f"{root}/usr/bin/python3.11")


class mounted:
    """/proc within a root, while it is used."""

    def __init__(self, root): self.root = root
    def __enter__(self):
        subprocess.run(["mount", "-t", "proc", "proc", self.root / "proc"], check=True)
        (self.root / "dev/null").exists() or subprocess.run(["mknod", "-m", "666", self.root / "dev/null", "c", "1", "3"], check=True)
    def __exit__(self, *_): subprocess.run(["umount", "-l", self.root / "proc"], check=True)


@contextlib.contextmanager
def elsewhere(folder):
    """The folder at another place, read-only: nothing that is removed there is removed here."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="python-"))
    place.chmod(0o755)
    subprocess.run(["mount", "--bind", folder, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


if __name__ == "__main__":
    if os.geteuid() != 0: sys.exit("run this as root: it becomes an ordinary user by itself")
    unittest.main()
