"""Packs a wheel and a tarball around one program that needs nothing but the C library, and judges them.

A wheel's scripts may be programs of any kind: pip puts them on PATH as they are, so that nothing of Python runs when one
is started. Symbols, size and the platform's rules (auditwheel) are checked here: what is out of bounds is an error.
"""
import argparse, gzip, pathlib, re, shutil, subprocess, sys, tarfile, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEWEST = {"program": (2, 34), "recorder": (2, 28)}  # glibc symbol versions
LARGEST = 15_000_000  # bytes of the wheel

parser = argparse.ArgumentParser()
for name in ("program", "recorder", "runner", "notices", "machine", "out"): parser.add_argument(f"--{name}", required=True)
arguments = parser.parse_args()

VERSION = re.search(r"project\(collect-workloads VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
PLATFORM = f"manylinux_2_34_{arguments.machine}"


def newest_symbol(path):
    """The newest version of glibc that a file asks for, as (2, 34)."""
    text = subprocess.run(["readelf", "--dyn-syms", "--wide", path], capture_output=True, text=True, check=True).stdout
    return max(tuple(map(int, version.split("."))) for version in re.findall(r"@GLIBC_(\d+\.\d+)", text))


def needed(path):
    text = subprocess.run(["readelf", "--dynamic", "--wide", path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"NEEDED.*\[(.*)\]", text)


def said(*words):
    """What the program prints; it may be another machine's."""
    return subprocess.run([*arguments.runner.split(), arguments.program, *words], capture_output=True, text=True, check=True).stdout


def lay_out(folder):
    """bin/ and share/, as under any prefix."""
    program = folder / "bin/collect-workloads"
    program.parent.mkdir(parents=True)
    shutil.copy(arguments.program, program)
    subprocess.run(["llvm-strip-14", program], check=True)
    program.chmod(0o755)
    share = {"bash-completion/completions/collect-workloads": said("completion", "bash"),
             "zsh/site-functions/_collect-workloads": said("completion", "zsh"),
             "fish/vendor_completions.d/collect-workloads.fish": said("completion", "fish"),
             **{f"collect-workloads/{name}.yaml": (ROOT / f"data/{name}.yaml").read_text() for name in ("bindings", "recipes", "recorder")},
             "collect-workloads/skills/collect-workloads/SKILL.md": said("skill")}
    commands = re.findall(r"^  ([a-z]+)  ", said("--help").split("Subcommands:")[1], re.MULTILINE)
    for command in ["", *commands]:
        share[f"man/man1/collect-workloads{'-' if command else ''}{command}.1"] = said("man", *([command] if command else []))
    for name, text in share.items():
        path = folder / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("man/"):  # the same bytes at every build
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            path.write_text(text)


METADATA = f"""Metadata-Version: 2.1
Name: collect-workloads
Version: {VERSION}
Summary: Collects the workloads of large language models for the flashinfer-trace dataset
License: Apache-2.0
Requires-Python: >=3.8
Classifier: Environment :: Console
Classifier: Operating System :: POSIX :: Linux
Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence
Description-Content-Type: text/markdown

"""
WHEEL = f"""Wheel-Version: 1.0
Generator: collect-workloads packaging/wheel.py
Root-Is-Purelib: false
Tag: py3-none-{PLATFORM}
"""


def notices(folder):
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    for notice in sorted(pathlib.Path(arguments.notices).iterdir()): shutil.copy(notice, folder / f"{notice.name}.txt")


def make_wheel(tree, out, scratch):
    name = f"collect_workloads-{VERSION}"
    wheel = scratch / "wheel"
    (wheel / f"{name}.data").mkdir(parents=True)
    shutil.copytree(tree / "bin", wheel / f"{name}.data/scripts")
    shutil.copytree(tree / "share", wheel / f"{name}.data/data/share")
    info = wheel / f"{name}.dist-info"
    notices(info / "licenses")
    (info / "METADATA").write_text(METADATA + (ROOT / "README.md").read_text())
    (info / "WHEEL").write_text(WHEEL)
    subprocess.run([sys.executable, "-m", "wheel", "pack", "--dest-dir", out, wheel], check=True, stdout=subprocess.DEVNULL)
    return out / f"{name}-py3-none-{PLATFORM}.whl"


def make_tarball(tree, out):
    name = f"collect-workloads-{VERSION}-linux-{arguments.machine}"
    notices(tree / "share/doc/collect-workloads/licenses")
    path = out / f"{name}.tar.gz"
    def plain(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, name, filter=plain)
    return path


out = pathlib.Path(arguments.out)
out.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as folder:
    scratch = pathlib.Path(folder)
    lay_out(scratch / "tree")
    wheel = make_wheel(scratch / "tree", out, scratch)
    tarball = make_tarball(scratch / "tree", out)
    files = {"program": scratch / "tree/bin/collect-workloads", "recorder": pathlib.Path(arguments.recorder)}
    problems = []
    for kind, path in files.items():
        newest = newest_symbol(path)
        print(f"{kind:9} {path.stat().st_size:>10,} bytes, glibc {'.'.join(map(str, newest))}, needs {' '.join(needed(path))}")
        if newest > NEWEST[kind]: problems.append(f"{kind}: asks for a newer glibc than {NEWEST[kind]}")
    for path in (wheel, tarball): print(f"{path}  {path.stat().st_size:,} bytes")
    if wheel.stat().st_size > LARGEST: problems.append(f"{wheel} has more than {LARGEST:,} bytes")

judged = subprocess.run([sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True)
print(judged.stdout.strip())
if judged.returncode != 0: problems.append("auditwheel: " + judged.stderr)
for problem in problems: print(f"error: {problem}", file=sys.stderr)
sys.exit(1 if problems else 0)
