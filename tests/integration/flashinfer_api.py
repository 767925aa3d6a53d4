"""FlashInfer's own decorator, classes and signatures without a GPU: its source files are parsed, and of what is asked for the
names, decorators and signatures are kept, with bodies that do nothing. `forward` and `forward_return_lse` keep their own.

The parent package is an empty one, so that only flashinfer.api_logging and what it needs are loaded."""
import ast
import enum
import functools
import importlib.util
import pathlib
import sys
import types
import typing

import torch

ROOT = pathlib.Path(importlib.util.find_spec("flashinfer").submodule_search_locations[0])
package = types.ModuleType("flashinfer")
package.__path__ = [str(ROOT)]
sys.modules["flashinfer"] = package
import flashinfer.api_logging as api_logging  # noqa: E402
import flashinfer.version  # noqa: E402,F401

# A GPU's tensors are copied to the host for a dump; the same copy here, or aliased arguments could not be saved.
api_logging._stage_tensor_for_dump = lambda tensor, graph_capture: tensor.detach().clone()


def find(pattern, name):
    for path in sorted(ROOT.glob(pattern)):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                parts = path.relative_to(ROOT).with_suffix("").parts
                return node, ".".join(("flashinfer", *parts)).removesuffix(".__init__")
    raise LookupError(f"FlashInfer has no {name}")


def is_api(decorator):
    return "flashinfer_api" in ast.unparse(decorator)


def emptied(function, body):
    """The function with `body(locals())` for its body."""
    function.body = ast.parse("return _body(locals())").body
    function.decorator_list = [ast.Name("flashinfer_api", ast.Load())] if any(map(is_api, function.decorator_list)) else []
    return function


def load(pattern, name, bodies=None):
    """A function, or a class with its decorated methods, `forward…` and aliases. `bodies`: what a method does, by its name."""
    node, module = find(pattern, name)
    bodies = bodies or {}
    namespace = {**vars(typing), "torch": torch, "functools": functools, "enum": enum, "flashinfer_api": api_logging.flashinfer_api,
                 "__name__": module}
    if isinstance(node, ast.FunctionDef):
        namespace["_body"] = bodies.get(name, lambda arguments: None)
        made = [emptied(node, None)]
    else:
        kept = []
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                if any("overload" in ast.unparse(d) for d in item.decorator_list):
                    continue
                if item.name in ("__init__", "plan", "run"):
                    emptied(item, None)
                    namespace[f"_body_{item.name}"] = bodies.get(item.name, lambda arguments: None)
                    item.body = ast.parse(f"return _body_{item.name}(locals())").body
                elif item.name not in ("forward", "forward_return_lse"):
                    continue
                kept.append(item)
            elif isinstance(item, ast.Assign):
                kept.append(item)
        node.body, node.bases, node.decorator_list = kept, [], []
        made = [node]
    for _ in range(50):  # types that only annotations and defaults name
        try:
            exec(compile(ast.fix_missing_locations(ast.Module(made, [])), str(ROOT / pattern), "exec"), namespace)
            return namespace[name]
        except NameError as error:
            namespace[error.name] = type(error.name, (), {"__getattr__": lambda self, n: 0})
        except AttributeError as error:  # a member of such a type, as a default
            setattr(error.obj, error.name, 0)
    raise RuntimeError(f"{name} cannot be made")
