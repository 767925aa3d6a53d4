"""Puts the recorder's hooks into FlashInfer, PyTorch and the engine as their modules are loaded.

config.json beside this file says what is hooked; `collect-workloads` writes it. Its members:

  decorators  {module: [names]}    decorators that FlashInfer puts on its API; replaced right after the module has loaded
  functions   [{module, name, as?, role?, rename?, values?}]
                                   functions that no decorator marks. `as` is the name they are recorded under; with `role`
                                   "plan" or "method" the first argument is the wrapper; `rename` gives parameters the
                                   names that bindings know
  scopes      [{module, name}]     what is called within them is no traffic: captures, warm-up, tuning
  batches     [{module, name, sequences}]
                                   the parameter `sequences` of this function is the number of real sequences in the batch
                                   that is planned next
  values      {function: {parameter: [bounds...] or {lengths, pages, layout?}}}
                                   index tensors whose values are kept, and the parameters whose last element says how
                                   much of them counts; or of a page table, the parameters with the lengths of sequences
                                   and with the pages themselves, and the one that says how those lie ("NHD" or "HND")
  objects?    {function: {parameter: [attributes]}}
                                   what these attributes of an argument hold counts as given under their names
  state       [attributes]         of a wrapper, as they are when one of its methods is called
  only        [names]              where it is there, nothing else is recorded

Nothing of the recorder but this file is loaded before one of these modules is.
"""
import functools
import importlib.machinery
import inspect
import json
import os
import re
import sys
import threading
import types
import weakref

_here = os.path.dirname(os.path.abspath(__file__))
_native = None  # the extension module, once anything is hooked
_config = None
_folder = None  # where to record
_options = None  # what else the environment said at process start: the engine may clear it
_stderr = None  # the device and inode of stderr at process start
_is_off = False


def install():
    """Watches for the modules that config.json names. Once a process."""
    global _config, _folder, _options, _stderr
    _stderr = _identity_of_stderr()
    _folder = os.environ["COLLECT_WORKLOADS_RECORD"]
    _options = {name: os.environ.get(f"COLLECT_WORKLOADS_RECORD_{name}", "") for name in ("BUDGET", "COUNTS", "VALUES")}
    with open(os.path.join(_here, "config.json"), encoding="utf-8") as file:
        _config = json.load(file)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(_actions()))
    _tell(_LOADED)


# What CountsHeader (src/recording/counts.h) has room for: places of its members.
_LOADED, _FLASHINFERS, _VERSION = 12, 16, 20
_VERSION_SIZE = 32


def _tell(count, version=None):
    """Counts this process for whoever started it, who otherwise could not say why nothing was recorded."""
    path = _options["COUNTS"]
    try:
        # Checked first: what the path names may have become something else, whose opening has effects.
        if not path or os.readlink(path) != "/memfd:collect-workloads (deleted)":
            return
        import fcntl

        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX)  # until it is closed
            number = int.from_bytes(os.pread(file, 4, count), sys.byteorder) + 1
            os.pwrite(file, number.to_bytes(4, sys.byteorder), count)
            if version is not None:
                os.pwrite(file, version.encode(errors="replace")[:_VERSION_SIZE].ljust(_VERSION_SIZE, b"\0"), _VERSION)
        finally:
            os.close(file)
    except (OSError, ValueError, OverflowError):  # nobody can be told
        pass


def _tell_of_flashinfer(module):
    try:
        known = getattr(sys.modules.get("flashinfer.version"), "__version__", "")
        version = str(getattr(module, "__version__", known))
    except Exception:  # some modules make their attributes when they are asked for
        version = ""
    _tell(_FLASHINFERS, version)


def _identity_of_stderr():
    try:
        status = os.fstat(2)
    except OSError:  # closed
        return None
    return [status.st_dev, status.st_ino]


def _actions():
    """What to do to each module after it has loaded: {module: [callable(module)]}."""
    actions = {}

    def add(module, action):
        actions.setdefault(module, []).append(action)

    for module, names in _config["decorators"].items():
        for name in names:
            add(module, functools.partial(_replace_decorator, name=name))
    for rule in _config["functions"]:
        add(rule["module"], functools.partial(_hook_function, rule=rule))
    for rule in _config["scopes"]:
        add(rule["module"], functools.partial(_mark_scope, rule=rule))
    for rule in _config["batches"]:
        add(rule["module"], functools.partial(_watch_batches, rule=rule))
    add("flashinfer", _tell_of_flashinfer)
    add("torch", _read_tensors_of_torch)
    add("torch.cuda.graphs", _hook_graphs)
    add("multiprocessing.util", _watch_children)
    return actions


class _Finder:
    """Finds nothing itself: lets the others find, and acts once their loader has run the module."""

    def __init__(self, actions):
        self._actions = actions
        self._busy = threading.local()  # other finders may ask the rest in turn, and so us

    def find_spec(self, name, path=None, target=None):
        if name not in self._actions or getattr(self._busy, "name", None) == name:
            return None
        self._busy.name = name
        try:
            spec = self._ask_others(name, path, target)
        finally:
            self._busy.name = None
        if spec is None:
            return None
        execute = getattr(spec.loader, "exec_module", None)
        if execute is None:
            return spec

        def exec_module(module):
            execute(module)
            for action in self._actions[name]:
                try:
                    action(module)
                except Exception as error:
                    _disable(error)

        try:
            spec.loader.exec_module = exec_module
        except AttributeError as error:
            _disable(error)
        return spec

    def _ask_others(self, name, path, target):
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                return spec
        return None


def _say_off(error):
    """The one line that an error leaves; not even that where the engine has no stderr, or one that raises."""
    try:
        if _stderr is not None and _identity_of_stderr() == _stderr:  # not a file that the engine has opened since
            sys.stderr.write(f"collect-workloads recorder: off in process {os.getpid()}: {error!r}\n")
    except Exception:
        pass


def _disable(error):
    global _is_off
    if not _is_off:
        _is_off = True
        if "main interpreter" not in str(error):  # which is still being recorded
            _say_off(error)
    if _native is not None:
        _native.stop()


def _load():
    """The extension module, or None when recording is off."""
    global _native
    if _is_off:
        return None
    if _native is None:
        import atexit

        sys.path.insert(0, _here)
        try:
            import _collect_workloads_recorder as native
        finally:
            sys.path.remove(_here)
        native.configure(os.fsencode(_folder), json.dumps({
            "budget": int(_options["BUDGET"] or 1_000_000_000),
            "counts": _options["COUNTS"],
            "keeps_values": _options["VALUES"] == "1",
            "header": {"python": sys.version.split()[0]},
            **({"stderr": _stderr} if _stderr else {}),
        }))
        os.register_at_fork(after_in_child=native.after_fork)
        atexit.register(native.stop)
        _native = native
    return _native


def _read_tensors(native):
    """Tells the extension how torch's tensors are read, once torch is there. Fakes in tests have a Tensor and a dtype."""
    if _read_tensors.is_done:
        return
    torch = sys.modules.get("torch")
    tensor, dtype = getattr(torch, "Tensor", None), getattr(torch, "dtype", None)
    if tensor is None or dtype is None:
        return  # asked again at the next hook
    stream = getattr(getattr(torch, "_C", None), "_cuda_getCurrentRawStream", None)
    exchange = getattr(tensor, "__dlpack_c_exchange_api__", None)
    samples = [] if exchange is None else _samples(torch)
    _read_tensors.recognizes = native.set_tensors(tensor, dtype, exchange, stream, *samples)
    # Samples may come out otherwise at the next hook.
    _read_tensors.is_done = exchange is None or _read_tensors.recognizes


_read_tensors.is_done = False
_read_tensors.recognizes = False  # calls that recur, without describing each


def _samples(torch):
    """Tensors in which the extension finds out where torch keeps what tells them apart (TensorLayout), and their keys."""
    try:
        usual, other = {"dtype": torch.bfloat16, "device": "cpu"}, {"dtype": torch.int32, "device": "cpu"}
        tensors = (torch.empty(3, 5, **usual), torch.empty(2, 3, 4, **usual), torch.empty(3, 5, **other),
                   torch.empty(3, 5, dtype=torch.bfloat16, device="meta"))
        return [tuple((tensor, torch._C._dispatch_keys(tensor).raw_repr()) for tensor in tensors)]
    except Exception:
        return []  # not all of torch is there yet, or it tells no keys


def _read_tensors_of_torch(_):
    """Torch may come after all that is hooked."""
    if _native is not None:
        _read_tensors(_native)


def _torch_version():
    version = re.match(r"(\d+)\.(\d+)", str(getattr(sys.modules.get("torch"), "__version__", "")))
    return tuple(map(int, version.groups())) if version else (0, 0)


def _invisible(hooked, function):
    """`hooked`, in whose place torch.compile traces `function`: a hook cannot be traced, and what is compiled is no call that
    anybody sees. Dynamo's own wrappers carry the same mark; for functions in C it works from PyTorch 2.11 on (tried)."""
    hooked._torchdynamo_inline = function
    if inspect.isfunction(function) or _torch_version() >= (2, 11):
        return hooked
    is_compiling = getattr(getattr(sys.modules.get("torch"), "compiler", None), "is_dynamo_compiling", None)
    if is_compiling is None:
        return hooked
    del hooked._torchdynamo_inline

    @functools.wraps(function)
    def checked(*args, **kwargs):
        if is_compiling():
            return function(*args, **kwargs)
        return hooked(*args, **kwargs)

    return checked


def _recorded(function, name, module, role, rename=None, values=None, parameters=(), current=()):
    """`function`, recorded. With `current`, a module's names and one of them: whatever is there when it is called."""
    native = _load()
    if native is None:
        return function
    _read_tensors(native)
    try:
        signature = inspect.signature(function)
        known = list(signature.parameters.values())
        named = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        others = [p.name for p in known if p.kind == p.KEYWORD_ONLY]
    except (ValueError, TypeError):  # written in C
        named, others = list(parameters), []
        signature = f"({', '.join(named)})" if named else "(*args, **kwargs)"
    text = re.sub(r"\w+", lambda word: (rename or {}).get(word[0], word[0]), str(signature))
    values = {**_config["values"].get(name, {}), **(values or {})}
    for parameter, how in values.items():
        if isinstance(how, dict) and "layout" in how:
            default = signature.parameters.get(how["layout"]) if isinstance(signature, inspect.Signature) else None
            values[parameter] = {**how, "default_layout": str(getattr(default, "default", ""))}
    version = getattr(sys.modules.get(module.split(".")[0] + ".version"), "__version__", None)
    call = native.hook(function, json.dumps({
        "function": name,
        "module": module,
        "signature": text,
        "role": role,
        "parameters": named + others,
        "rename": rename or {},
        "positional": len(named),
        "state": _config["state"] if role == "method" else [],
        "objects": _config.get("objects", {}).get(name, {}),
        "values": values,
        **({"version": version} if version else {}),
    }), *current)

    @functools.wraps(function)
    def recorded(*args, **kwargs):
        return call(args, kwargs)

    native.enter_directly(recorded, call)
    return _invisible(recorded, function)


def _replace_decorator(module, name):
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def decorator(function=None, *args, **kwargs):
        if function is None:
            decorate = original(*args, **kwargs)
            return lambda decorated: _record_decorated(decorate(decorated), decorated)
        return _record_decorated(original(function, *args, **kwargs), function)

    setattr(module, name, decorator)


def _is_wanted(name):
    only = _config.get("only")
    return only is None or name in only


def _record_decorated(decorated, function):
    """One of FlashInfer's API: `decorated` is what its own decorator made of `function`."""
    try:
        if (inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function)
                or inspect.isasyncgenfunction(function)):
            return decorated  # what is called is not what runs
        if isinstance(function, (staticmethod, classmethod, type)) or not hasattr(function, "__qualname__"):
            return decorated  # a function in its place would be called differently
        name = function.__qualname__.split("<locals>.")[-1]
        if not _is_wanted(name):
            return decorated
        method = name.rpartition(".")[2]
        is_method = "." in name and next(iter(inspect.signature(function).parameters), None) == "self"
        role = ("function" if not is_method else "init" if method == "__init__"
                else "plan" if method == "plan" else "method")
        module = function.__module__  # None if it was made by exec
        return _recorded(decorated, name, module if isinstance(module, str) else "flashinfer", role)
    except Exception as error:
        _disable(error)
        return decorated


def _owner(module, path):
    """The object that holds the last name of a dotted path, and that name; None when it is not there."""
    *outer, last = path.split(".")
    for name in outer:
        module = getattr(module, name, None)
    return (module, last) if module is not None and hasattr(module, last) else None


def _wrap(module, path, make):
    """Puts make(native, function) in the place of a function, where it is there and recording is on."""
    found = _owner(module, path)
    native = _load()
    if found is None or native is None:
        return
    function = getattr(*found)
    wrapped = make(native, function)
    if wrapped is not None:
        setattr(*found, _invisible(functools.wraps(function)(wrapped), function))


def _module_over(module):
    """A module that has the names of another, also those that it gets later, and may have others over them."""
    over = types.ModuleType(module.__name__, module.__doc__)
    for name in ("__spec__", "__loader__", "__package__"):
        setattr(over, name, getattr(module, name, None))
    over.__getattr__ = functools.partial(getattr, module)
    over.__dir__ = functools.partial(dir, module)
    return over


def _hook_function(module, rule):
    found = _owner(module, rule["name"])
    name = rule.get("as", rule["name"])
    if found is None or not _is_wanted(name):
        return
    role = rule.get("role", "function")
    owner, last = found
    if inspect.ismodule(owner) and owner is not module:
        # Another module's function, as called from this one: this module gets a proxy for the other one with a stand-in
        # under that name, because others may rely on the function's identity (torch.jit and __torch_function__ do).
        local = rule["name"].partition(".")[0]
        if rule["name"] != f"{local}.{last}":
            return
        found = _module_over(owner), last
        setattr(module, local, found[0])
    setattr(*found, _recorded(getattr(owner, last), name, module.__name__, role, rule.get("rename"), rule.get("values"),
                               rule.get("parameters", ()), current=(owner.__dict__, last) if found[0] is not owner else ()))


def _mark_scope(module, rule):
    def make(native, function):
        def scope(*args, **kwargs):
            native.begin_dummy()
            try:
                return function(*args, **kwargs)
            finally:
                native.end_dummy()

        return scope

    _wrap(module, rule["name"], make)


def _watch_batches(module, rule):
    parameter = rule["sequences"]

    def make(native, function):
        names = list(inspect.signature(function).parameters)
        if parameter not in names:
            return None
        place = names.index(parameter)

        def batch(*args, **kwargs):
            sequences = kwargs.get(parameter, args[place] if place < len(args) else None)
            if isinstance(sequences, int) and sequences >= 0:
                native.batch(sequences)
            return function(*args, **kwargs)

        return batch

    _wrap(module, rule["name"], make)


def _watch_children(module):
    """Workers that multiprocessing forks end without atexit; it has a way of its own."""
    module.register_after_fork(_watch_children, lambda _: module.Finalize(None, _stop, exitpriority=0))


def _stop():
    if _native is not None:
        _native.stop()


def _forget_memory(native, graph):
    """Of what the calls of a captured graph read, tells apart what the graph makes itself: that is in its own memory, and
    before a replay it holds what the last one left."""
    number = getattr(graph, "_collect_workloads_graph", 0)
    if not number or not native.has_inputs(number):
        return
    try:
        pool = tuple(graph.pool())
        snapshot = sys.modules["torch"].cuda.memory_snapshot
        try:
            segments = snapshot(pool)
        except TypeError:  # PyTorch before 2.7 knows no pools here
            segments = snapshot()
        for segment in segments:
            if tuple(segment["segment_pool_id"]) == pool:
                native.forget_memory(number, segment["address"], segment["total_size"])
    except Exception:  # not known: then nothing of it is read
        native.forget_memory(number, 0, 2**64 - 1)


def _hook_graphs(module):
    """Calls captured in a graph are remembered with the graph object, and counted when it is replayed.

    PyTorch 2.14 has hooks for that. The methods replaced here run them, so that they see no graph more, and older versions have
    none.
    """
    graph_class = getattr(module, "CUDAGraph", None)
    native = _load()
    if graph_class is None or native is None:
        return
    begin, end, replay = graph_class.capture_begin, graph_class.capture_end, graph_class.replay

    @functools.wraps(begin)
    def capture_begin(self, *args, **kwargs):
        if before := getattr(self, "_collect_workloads_graph", 0):  # captured anew
            native.forget_graph(before)
        try:
            self._collect_workloads_graph = number = native.begin_capture()
            weakref.finalize(self, native.forget_graph, number).atexit = False
        except (AttributeError, TypeError):  # a subclass without room: its replays are not counted, or it is not forgotten
            pass
        try:
            return begin(self, *args, **kwargs)
        except BaseException:
            native.end_capture()
            raise

    @functools.wraps(end)
    def capture_end(self, *args, **kwargs):
        try:
            return end(self, *args, **kwargs)
        finally:
            native.end_capture()
            _forget_memory(native, self)

    @functools.wraps(replay)
    def recorded_replay(self, *args, **kwargs):
        graph = getattr(self, "_collect_workloads_graph", 0)
        if graph:
            native.replay(graph)
        return replay(self, *args, **kwargs)

    # With one of these handles, an engine launches the graph past replay(). Reported once per capture.
    def exposing(handle):
        @functools.wraps(handle)
        def exposed(self, *args, **kwargs):
            graph = getattr(self, "_collect_workloads_graph", 0)
            if graph and getattr(self, "_collect_workloads_exposed", 0) != graph:
                self._collect_workloads_exposed = graph
                native.expose(graph)
            return handle(self, *args, **kwargs)

        return exposed

    for name in ("raw_cuda_graph", "raw_cuda_graph_exec"):
        handle = getattr(graph_class, name, None)
        if handle is not None:
            setattr(graph_class, name, exposing(handle))

    graph_class.capture_begin = capture_begin
    graph_class.capture_end = capture_end
    graph_class.replay = recorded_replay
