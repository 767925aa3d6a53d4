"""Found by Python's start in a folder that COLLECT_WORKLOADS_RECORD's owner put on PYTHONPATH: prepares the recorder, then
runs the sitecustomize that this file hides, if there is one. Needs Python 3.10; does nothing in older ones.
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
        sys.stderr.write(f"collect-workloads recorder: off in process {os.getpid()}: {error!r}\n")


def _chain():
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_prepare()
_chain()
