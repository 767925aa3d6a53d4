"""What is put into SGLang beside the recorder: this folder on PYTHONPATH, and PROBE (probe_truth.py) or SWITCH (probe_switch.py)
naming the file to append to. Each has a table MODULES: what to call with a module once it has been loaded.
"""
import importlib.util
import os
import sys

actions = {}
if os.environ.get("PROBE"):
    import probe_truth

    actions.update(probe_truth.MODULES)
if os.environ.get("SWITCH"):
    import probe_switch

    actions.update(probe_switch.MODULES)


class AfterLoading:
    busy = False

    def find_spec(self, name, path=None, target=None):
        if name not in actions or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            actions[name](module)

        spec.loader.exec_module = exec_module
        return spec


if actions:
    sys.meta_path.insert(0, AfterLoading())
