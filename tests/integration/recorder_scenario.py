"""What an engine does, in small, with the stand-ins of fakes/: warm-up, a graph's capture, replays, eager steps.

  recorder_scenario.py NAME [ARGUMENTS]
"""
import functools
import inspect
import os
import random
import signal
import sys
import threading
import time
import traceback

import torch
from flashinfer import decode, norm, sampling
from sglang.srt.layers.quantization import unquant
from torch import Tensor, empty

HEADS, KV_HEADS, DIM = 32, 8, 128
POOL = 4096
kv = (empty(POOL, KV_HEADS, DIM), empty(POOL, KV_HEADS, DIM))


def tables(lengths, first=0, room=0):
    """indptr, indices (with `room` unused entries), last_page_len of pages of one token."""
    indptr = [0]
    for length in lengths:
        indptr.append(indptr[-1] + length)
    indices = [(first + i) % POOL for i in range(indptr[-1])]
    return Tensor(indptr), Tensor(indices + [2**30] * room), Tensor([1] * len(lengths))


def new_wrapper(**options):
    return decode.BatchDecodeWithPagedKVCacheWrapper(empty(64), **options)


def plan(wrapper, lengths, first=0):
    wrapper.begin_forward(*tables(lengths, first), HEADS, KV_HEADS, DIM, 1, data_type=torch.bfloat16)


def step(wrapper, lengths, layers=3, first=0):
    plan(wrapper, lengths, first)
    for _ in range(layers):
        norm.rmsnorm(empty(len(lengths), 4096), empty(4096), 1e-5)
        wrapper.forward(empty(len(lengths), HEADS, DIM), kv, sm_scale=0.125, logits_soft_cap=0.0)


def in_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def engine():
    """Two eager steps; a graph for four sequences, captured with dummy lengths and replayed twice; sampling."""
    wrapper = new_wrapper()
    step(wrapper, [5, 7])
    step(wrapper, [6, 8], first=100)
    of_graph = new_wrapper(use_cuda_graph=True)
    graph = torch.cuda.CUDAGraph()
    plan(of_graph, [1, 1, 1, 1])
    graph.capture_begin()
    for _ in range(3):
        of_graph.forward(empty(4, HEADS, DIM), kv, sm_scale=0.125)
    graph.capture_end()
    for lengths, first in (([10, 11, 12, 1], 200), ([11, 12, 13, 1], 300)):
        indptr, indices, last = tables(lengths, first, room=1000)
        decode.fast_decode_plan(of_graph, indptr, indices, last, HEADS, KV_HEADS, DIM, 1, data_type=torch.bfloat16,
                                global_override_indptr_cpu=indptr)
        graph.replay()
    # What the capture planned with is in no replay.
    sampling.top_k_top_p_sampling_from_probs(empty(2, 128256, dtype=torch.float32), Tensor([40, 50]),
                                             Tensor([0.5, 0.75], torch.float32), filter_apply_order="joint")
    unquant.apply(empty(2, 2048, dtype=torch.float16), empty(128, 2048, dtype=torch.float16))
    torch.nn.functional.linear(empty(1, 8), empty(8, 8))  # everybody else's is left alone


def children(kind):
    """A parent and a child that was made by fork or spawn, one step each."""
    wrapper = new_wrapper()
    if kind == "fork":
        step(wrapper, [3])
        child = os.fork()
        if child == 0:
            step(wrapper, [4])
            sys.exit(0)  # as a worker ends: atexit runs
        os.waitpid(child, 0)
    else:
        import multiprocessing

        step(wrapper, [3])
        process = multiprocessing.get_context("spawn").Process(target=step, args=(wrapper, [4]))
        process.start()
        process.join()


def threads():
    def work(number):
        wrapper = new_wrapper()
        for i in range(200):
            step(wrapper, [number + 2] * (1 + i % 4), layers=2)

    in_threads(functools.partial(work, i) for i in range(8))


def raising_for_long():
    """The same failing call again and again, over several windows of the recording."""
    wrapper = new_wrapper()
    plan(wrapper, [3])
    for _ in range(300):
        try:
            wrapper.run(None, kv)
        except ValueError:
            time.sleep(0.003)


def two_wrappers():
    """A wrapper that never was told of a window, and one that was."""
    a, b = new_wrapper(), new_wrapper()
    plan(a, [3])
    a.run(empty(1, HEADS, DIM), kv)
    plan(b, [4])
    b.forward(empty(1, HEADS, DIM), kv, sm_scale=0.125, window_left=128, logits_soft_cap=30.0)


def signals():
    """An engine that waits for a signal, and one whose handler raises while a call is noted."""
    norm.rmsnorm(empty(1, 64), empty(64))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1

    def interrupt(*_):
        raise KeyboardInterrupt

    class Slow(Tensor):  # a tensor whose attributes run Python's bytecode, where handlers run
        @property
        def dtype(self):
            for _ in range(2000):
                pass
            return torch.int32

        @dtype.setter
        def dtype(self, value):
            pass

    signal.signal(signal.SIGALRM, interrupt)
    slow, raised, arrived = Slow([1]), 0, 0
    for _ in range(100):
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            for _ in range(1000):
                norm.rmsnorm(slow, slow)
        except KeyboardInterrupt:
            arrived += 1
    assert arrived == 100, arrived


def daemons():
    """The interpreter ends while daemon threads are in the middle of calls."""

    class Property(Tensor):
        @property
        def dtype(self):
            return torch.int32 if time.sleep(0) is None else None

        @dtype.setter
        def dtype(self, value):
            pass

    tensor = Property([1])

    def work():
        while True:
            norm.rmsnorm(tensor, tensor)

    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)


def pool():
    """Workers of multiprocessing, which end without atexit."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as workers:
        workers.map(in_pool, range(4), chunksize=1)
        workers.close()
        workers.join()


def in_pool(number):
    norm.rmsnorm(empty(number + 1, 64), empty(64))


def stop_twice():
    import collect_workloads_recorder

    norm.rmsnorm(empty(1, 64), empty(64))
    in_threads([collect_workloads_recorder._stop] * 8)
    norm.rmsnorm(empty(1, 64), empty(64))


def raising():
    wrapper = new_wrapper()
    plan(wrapper, [3])
    for _ in range(2):
        try:
            wrapper.run(None, kv)
        except ValueError as error:
            assert str(error) == "no q"
        else:
            raise AssertionError("the API's exception did not arrive")
    wrapper.run(empty(1, HEADS, DIM), kv)
    try:
        norm.rmsnorm()
    except TypeError:
        pass


def looks():
    """A hook looks like its function, however it is called; where the interpreter can do without (3.12), its body does not run."""
    hook, wrapper = norm.rmsnorm, new_wrapper()
    assert inspect.isfunction(hook) and hook.__name__ == "rmsnorm" and list(inspect.signature(hook).parameters)[:2] == ["input", "weight"]
    assert inspect.ismethod(wrapper.run) and wrapper.run.__self__ is wrapper
    x, w = empty(1, 64), empty(64)
    for result in (hook(x, w), hook(x, weight=w), hook(weight=w, input=x), hook(*(x, w), **{"eps": 1e-6}), hook(x, w, 1e-6, out=None),
                   functools.partial(hook, weight=w)(x), *map(hook, [x], [w])):
        assert result is x
    plan(wrapper, [3])
    run = wrapper.run
    run(empty(1, HEADS, DIM), kv)
    type(wrapper).run(wrapper, empty(1, HEADS, DIM), paged_kv_cache=kv)
    try:
        hook()
    except TypeError as error:
        bodies = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "recorded"]
        assert bool(bodies) == (sys.version_info < (3, 12)), bodies
    else:
        raise AssertionError("no arguments were enough")


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __index__(self):
        raise RuntimeError("index")

    def __repr__(self):
        raise RuntimeError("repr")


class Recursive:
    @property
    def value(self):
        norm.rmsnorm(empty(1, 64), empty(64))  # a call within the noting of another
        return 1

    name = "recursive"


class Odd(Tensor):
    shape = property(lambda self: "no shape", lambda self, value: None)


def garbage(seed, count="3000"):
    """Arguments of every kind in every place: the call's result is its own, whatever they are."""
    rng = random.Random(int(seed))
    endless = []
    endless.append(endless)

    def value(depth=0):
        kinds = [None, True, rng.randint(-2**70, 2**70), rng.random(), float("nan"), float("inf"), "text" * rng.randint(0, 99),
                 "\ud800", b"bytes", object(), Hostile(), Recursive(), int, len, endless, {1: 2}, set(), range(3), 1j,
                 empty(), empty(0, 3), empty(*([2] * rng.randint(1, 20))), Odd([1]), Tensor([1, 2, 3], strides=(5,)),
                 Tensor([], torch.int64), torch.int32, [], (), type("int_like", (int,), {"name": 3})(5)]
        if depth < 6 and rng.random() < 0.3:
            return [value(depth + 1) for _ in range(rng.randint(0, 40 if depth == 0 else 2))]
        return rng.choice(kinds)

    functions = [norm.rmsnorm, sampling.top_p_sampling_from_probs, unquant.apply]
    wrapper = new_wrapper()
    for _ in range(int(count)):
        first = value()
        assert rng.choice(functions)(first, value()) is first
        wrapper.begin_forward(value(), value(), value(), value(), value(), value(), value(), sm_scale=value())
        if first is not None:
            assert wrapper.run(first, value(), out=value()) is first
    step(wrapper, [3])  # and goes on as before
    print("as if nothing was there")


SECRET = "the-secret-of-the-prompt"


def secret():
    """The prompt in all that an engine could pass: tokens, objects, long texts, activations."""
    tokens = [ord(c) for c in SECRET]

    class Request:
        prompt = SECRET

        def __repr__(self):
            return SECRET

    class Named:
        name, value, _name_, _value_ = SECRET, 7, SECRET, 7

    hidden = Tensor(tokens, torch.int64)
    as_bytes = Tensor(tokens, torch.int32)
    norm.rmsnorm(Tensor([float(t) for t in tokens], torch.float32), Tensor(tokens), Request(), out=as_bytes)
    unquant.apply(hidden, as_bytes, {"prompt": SECRET})
    norm.rmsnorm(tokens, (SECRET, Named()), SECRET, out=[tokens], enable_pdl=SECRET.replace("-", " "))
    sampling.top_p_sampling_from_probs(Tensor([float(t) for t in tokens], torch.float32), Request(), indices=hidden)
    wrapper = new_wrapper()
    wrapper.note = SECRET
    step(wrapper, [5, 7])


def forever():
    """Steps of one more sequence each, until killed; says on stdout when each was begun."""
    wrapper = new_wrapper()
    size = 0
    while True:
        size += 1
        step(wrapper, [1] * (size % 1000 + 1), layers=1)
        os.write(1, b"%d %d\n" % (size % 1000 + 1, time.monotonic_ns()))
        time.sleep(0.002)


def traffic(first="0"):
    """Steps that all differ in their tables, of few shapes that differ in how frequent they are: 3 layers each."""
    wrapper = new_wrapper()
    for i in range(500):
        lengths = [8] * 16 if i % 25 < 16 else [100] if i % 25 < 22 else [5, 5, 5, 5] if i % 25 < 24 else [9] * 4
        step(wrapper, lengths, first=int(first) + i)


def killed(idle="0"):
    """An engine that is killed, after it has done nothing for a while or in the middle of its work."""
    wrapper = new_wrapper()
    for i in range(50):
        step(wrapper, [5 + i], layers=1)
    time.sleep(float(idle))
    os.kill(os.getpid(), signal.SIGKILL)


def of_no_module():
    """A function of FlashInfer's API that was made by exec: nobody knows of which module it is."""
    from flashinfer.api_logging import flashinfer_api

    names = {"flashinfer_api": flashinfer_api}
    exec("@flashinfer_api\ndef made(x):\n    return x\n", names)
    assert names["made"].__module__ is None or isinstance(names["made"].__module__, str)
    function = lambda x: x
    function.__module__ = None
    assert flashinfer_api(function)(3) == 3
    norm.rmsnorm(empty(2, 64), empty(64))


def cut_out():
    """Steps of three sequences of two tokens, planned with the end of a batch's tables, as an engine does whose other sequences are others' business."""
    wrapper = new_wrapper()
    for i in range(200):
        before = 5 * (i % 40)
        indptr = Tensor([before, before + 2, before + 4, before + 6])
        wrapper.plan(indptr, Tensor([(7 * i + k) % POOL for k in range(before + 6)]), Tensor([1, 1, 1]), HEADS, KV_HEADS, DIM, 1, data_type=torch.bfloat16)
        for _ in range(2):
            wrapper.run(empty(3, HEADS, DIM), kv)


def steps(count, sleep="0"):
    """Steps that all differ, until done."""
    wrapper = new_wrapper()
    for i in range(int(count)):
        step(wrapper, [1 + i % 50, 1 + i // 50], layers=1, first=i)
        if float(sleep):
            time.sleep(float(sleep))
    print("done", flush=True)


def paused():
    """Ten steps; every other one is only passed on."""
    wrapper = new_wrapper()
    for number in range(10):
        sys.modules["_collect_workloads_recorder"].pause(number % 2 == 1)
        step(wrapper, [number + 2])


def without_stderr(kind):
    """An engine that has no stderr, or one that raises, and loads more when the recorder has just gone off."""
    from flashinfer import api_logging

    if kind == "closed":
        os.close(2)
    sys.stderr = None if kind == "none" else open(os.devnull, "w")
    if kind == "broken":
        sys.stderr.close()
    api_logging.flashinfer_api(lambda a: a)(1)
    print("fine")


def closes_descriptors(kind, path, first="3"):
    """A daemon: after its first recorded call it closes every descriptor from `first` on, whoever's they are, and works with files,
    a database or sockets of its own under the same numbers. Says whether what it finds there is what it put there."""
    import socket
    import sqlite3

    wrapper = new_wrapper()
    step(wrapper, [3])
    time.sleep(0.6)  # what was recorded has been written
    os.closerange(int(first), 1024)
    if kind == "socket":
        pairs = [socket.socketpair() for _ in range(80)]
        put, take = (lambda i: [a.send(b"%d;" % i) for a, _ in pairs]), (lambda: [b.recv(1 << 16) for _, b in pairs])
    elif kind == "sqlite":
        others = [sqlite3.connect(f"{path}{i}") for i in range(50)]
        for database in others:
            database.execute("create table t (i)")

        def put(i):
            for database in others:
                database.execute("insert into t values (?)", (i,))
                database.commit()

        def take():
            assert all(d.execute("pragma integrity_check").fetchone() == ("ok",) for d in others)
            return [b"".join(b"%d;" % i for (i,) in d.execute("select i from t order by i")) for d in others]
    else:
        files = [open(f"{path}{i}", "w+b", buffering=0) for i in range(100)]
        put = lambda i: [f.write(b"%d;" % i) for f in files]
        take = lambda: [(f.seek(0), f.read())[1] for f in files]
    for i in range(1 if kind == "exit" else 25):
        if kind != "exit":
            step(wrapper, [4 + i])
        put(i)
        time.sleep(0.03)
    sys.modules["_collect_workloads_recorder"].stop()  # what atexit does
    expected = b"".join(b"%d;" % i for i in range(1 if kind == "exit" else 25))
    wrong = [found for found in take() if found != expected]
    with open(f"{path}-verdict", "w") as verdict:
        verdict.write("mine alone" if not wrong else f"{len(wrong)} hold something else: {wrong[0][:80]!r}")


def says(text):
    """Writes to both standard streams, as far as they are open."""
    for i in range(30):
        norm.rmsnorm(empty(1, 4096), empty(4096), 1e-5)
        for stream in (1, 2):
            try:
                os.write(stream, text.encode())
            except OSError:
                pass
        time.sleep(0.03)


def odd_decorations():
    """What may stand under a decorator and is no function."""
    from flashinfer.api_logging import flashinfer_api

    class Callable:
        def __call__(self, a):
            return a

    class Odd:
        @flashinfer_api
        @staticmethod
        def of_none(a):
            return a

        @flashinfer_api
        @classmethod
        def of_class(cls, a):
            return cls, a

        @flashinfer_api
        def plain(self, a):
            return self, a

    odd = Odd()
    assert Odd.of_none(1) == odd.of_none(1) == 1 and odd.of_class(2) == (Odd, 2) and odd.plain(3) == (odd, 3)
    assert flashinfer_api(Callable())(4) == 4 and isinstance(flashinfer_api(Odd), type)


def replaced():
    """A function of another module, hooked where one module calls it: what others do to it later counts there too."""
    from torch.nn import functional

    x = empty(2, 64)
    plain = unquant.apply(x, empty(3, 64))
    original = functional.linear
    functional.linear = lambda *args: "replaced"
    assert unquant.apply(x, empty(3, 64)) == "replaced"
    functional.linear = unquant.F.linear  # which must not find itself
    assert type(unquant.apply(x, empty(3, 64))) is type(plain)
    functional.linear, functional.later = original, 1
    assert unquant.F.later == 1 and "later" in dir(unquant.F)


def interpreters():
    """Another interpreter of the process, which shares the extension but must not take it over."""
    try:
        import _interpreters as pool
    except ImportError:
        import _xxsubinterpreters as pool
    norm.rmsnorm(empty(1, 64), empty(64))
    try:
        other = pool.create("legacy")
    except (TypeError, ValueError):
        other = pool.create(isolated=False)
    pool.run_string(other, "from flashinfer import norm; from torch import empty; norm.rmsnorm(empty(2, 64), empty(64))")
    norm.rmsnorm(empty(3, 64), empty(64))
    pool.destroy(other)
    for _ in range(50):
        norm.rmsnorm(empty(4, 64), empty(64))


def escapes():
    from flashinfer.api_logging import flashinfer_api

    def function(*args):
        pass

    function.__qualname__ = "fun\x1b[31mction\x9b"
    function.__signature__ = inspect.Signature([inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    flashinfer_api(function)(empty(1, 64))

    def keywords(**kwargs):
        pass

    flashinfer_api(keywords)(**{"in\x1b[2Jput": empty(1, 64)})


def foreign_finder():
    """Another tool's import hook that asks all others, as ours does."""
    class Finder:
        busy = False

        def find_spec(self, name, path=None, target=None):
            for finder in sys.meta_path:
                if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                    return spec

    for name in [name for name in sys.modules if name.split(".")[0] == "flashinfer"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
    from flashinfer import norm as again

    again.rmsnorm(empty(2, 64), empty(64))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    globals()[sys.argv[1]](*sys.argv[2:])
