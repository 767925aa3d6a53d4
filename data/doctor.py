"""Looks at the packages of this Python for what is recorded of them, by reading their source: nothing of them is imported.

`collect-workloads doctor` runs this. argv[1]: {"functions", "scopes", "batches", "decorators": as in data/recorder.yaml, "apis":
names of FlashInfer's functions, "packages": names of distributions}. stdout: {"packages": {name: version or null}, "rules": [what
became of each rule], "apis": {name: {"module", "parameters", "is_decorated"} or null}}.
"""
import ast, importlib.metadata, importlib.util, json, os, sys


MODULES = {"flashinfer-python": "flashinfer"}  # of distributions whose name is another


class Source:
    """The packages on this Python's path, as files."""

    def __init__(self):
        self.roots, self.trees = {}, {}

    def root(self, package):
        if package not in self.roots:
            spec = importlib.util.find_spec(package)  # finds it, also what is installed in place, and does not load it
            self.roots[package] = next(iter(spec.submodule_search_locations or ()), None) if spec else None
        return self.roots[package]

    def file(self, module):
        package, *rest = module.split(".")
        root = self.root(package)
        if root is None: return None
        path = os.path.join(root, *rest)
        for candidate in (path + ".py", os.path.join(path, "__init__.py")):
            if os.path.isfile(candidate): return candidate
        return None

    def tree(self, file):
        if file not in self.trees:
            with open(file, "rb") as source: self.trees[file] = ast.parse(source.read())
        return self.trees[file]


def find(tree, path):
    """The definition of a dotted name in a module, also within `if` and `try`; imported names and assignments count too."""
    body = tree.body
    for place, name in enumerate(path):
        found = None
        for node in walk(body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if node.name == name: found = node
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                if any((alias.asname or alias.name.split(".")[0]) == name for alias in node.names): found = node
            elif isinstance(node, ast.Assign):
                if any(isinstance(target, ast.Name) and target.id == name for target in node.targets): found = node
        if found is None: return None
        if isinstance(found, (ast.Import, ast.ImportFrom)): return found  # what it is there cannot be told from here
        if place + 1 < len(path) and not isinstance(found, ast.ClassDef): return None
        body = getattr(found, "body", [])
    return found


def walk(body):
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)): yield from walk(getattr(node, part, []))
        for handler in getattr(node, "handlers", []): yield from walk(handler.body)


def parameters(node):
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): return None
    given = node.args
    names = [argument.arg for argument in given.posonlyargs + given.args + given.kwonlyargs]
    return names + (["*"] if given.vararg else []) + (["**"] if given.kwarg else [])


def check(source, module, name, parameter=None):
    """What became of a rule: nothing if it is followed, else why not."""
    if source.root(module.split(".")[0]) is None: return "package"
    file = source.file(module)
    if file is None: return "module"
    found = find(source.tree(file), name.split("."))
    if found is None: return "name"
    names = parameters(found)
    if parameter and names is not None and parameter not in names and "**" not in names: return "parameter"
    return None


def find_apis(source, wanted):
    """FlashInfer's functions and methods of these names, the decorated ones first."""
    root = source.root("flashinfer")
    found = {name: None for name in wanted}
    if root is None or not wanted: return found
    # Most files define none of them: parsing takes a hundred times as long as looking for a text.
    marks = {f"class {name.split('.')[0]}" if "." in name else f"def {name}(" for name in wanted}
    marks = [mark.encode() for mark in marks]
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in ("data", "tests", "__pycache__")]
        for name in files:
            if not name.endswith(".py"): continue
            file = os.path.join(folder, name)
            with open(file, "rb") as source_file: text = source_file.read()
            if not any(mark in text for mark in marks): continue
            for qualified, node in definitions(source.tree(file).body):
                if qualified not in found: continue
                is_decorated = any("flashinfer" in ast.dump(decorator) and "api" in ast.dump(decorator) for decorator in node.decorator_list)
                # Overloads tell types only.
                if any("overload" in ast.dump(decorator) for decorator in node.decorator_list): continue
                if found[qualified] and (found[qualified]["is_decorated"] or not is_decorated): continue
                module = os.path.relpath(file, os.path.dirname(root))[:-3].replace(os.sep, ".")
                found[qualified] = {"module": module.removesuffix(".__init__"), "parameters": parameters(node), "is_decorated": is_decorated}
    return found


def definitions(body, prefix=""):
    for node in walk(body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef): yield from definitions(node.body, node.name + ".")


def version(source, name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # or a folder on the path
        return "of unknown version" if source.root(MODULES.get(name, name)) else None


def main():
    asked = json.loads(sys.argv[1])
    sys.path[:] = [path for path in sys.path if path]  # folders where this was started are no packages
    source, rules = Source(), []
    for module, names in asked["decorators"].items():
        for name in names: rules.append({"kind": "decorators", "module": module, "name": name, "missing": check(source, module, name)})
    for kind in ("functions", "scopes", "batches"):
        for rule in asked[kind]:
            parameter = rule.get("sequences") if kind == "batches" else None
            missing = check(source, rule["module"], rule["name"], parameter)
            rules.append({"kind": kind, "module": rule["module"], "name": rule["name"], "since": rule.get("since"), "missing": missing})
    json.dump({"python": sys.version.split()[0], "executable": sys.executable, "packages": {name: version(source, name) for name in asked["packages"]},
               "rules": rules, "apis": find_apis(source, asked["apis"])}, sys.stdout)


main()
