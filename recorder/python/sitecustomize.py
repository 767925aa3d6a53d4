"""Found by Python's start in a folder that COLLECT_WORKLOADS_RECORD's owner put on PYTHONPATH: prepares the recorder, then
runs the sitecustomize that this file hides, if there is one. Needs Python 3.10; in older ones it does no more than that.
"""
import os
import sys


def _prepare():
    if not os.environ.get("COLLECT_WORKLOADS_RECORD") or sys.version_info < (3, 10):
        return
    try:
        import collect_workloads_recorder

        collect_workloads_recorder.install()
    except Exception as error:  # the engine must start whatever happens here
        try:
            sys.stderr.write("collect-workloads recorder: off in process %d: %r\n" % (os.getpid(), error))
        except Exception:
            pass


def _chain():
    # Neither this folder nor that of another recorder version, which would lead back here.
    def is_other(path):
        return not os.path.exists(os.path.join(path or ".", "collect_workloads_recorder.py"))

    others = [path for path in sys.path if is_other(path)]
    try:
        from importlib.machinery import PathFinder
        from importlib.util import module_from_spec
    except ImportError:  # Python 2
        import imp

        try:
            found = imp.find_module("sitecustomize", others)
        except ImportError:
            return
        imp.load_module("sitecustomize", *found)
        return
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_prepare()
_chain()
