"""A recording as the comparisons of this folder read it (docs/recording.md has its records). Needs cbor2."""
import struct

import cbor2


def integers(value):
    return list(struct.unpack(f"<{len(value) // 4}i", value))


def tensor_names(arguments):
    """The name of every tensor's argument, in the order in which a record counts them."""
    names = []

    def walk(name, value):
        if isinstance(value, dict) and "dtype" in value:
            names.append(name)
        for item in value.get("items", ()) if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(name, item)

    for name, value in arguments:
        walk(name, value)
    return names


class Recording:
    """`values` are bytes by hash."""

    def __init__(self, path):
        records = []
        with open(path, "rb") as file:
            while True:
                try:
                    records.append(cbor2.loads(cbor2.load(file)[1].value))
                except cbor2.CBORDecodeError:
                    break
        self.values = {r["hash"]: r["values"] for r in records if r["record"] == "values"}
        self._sites = {r["site"]: r for r in records if r["record"] == "site"}
        self._forms = {r["form"]: r for r in records if r["record"] == "form"}
        self._groups = [g for r in records if r["record"] == "calls" for g in r["calls"]]

    def calls(self):
        """Of each group of calls: its function, the group, its arguments and what it has of its tensors, both by name."""
        for group in self._groups:
            form = self._forms[group["form"]]
            names = tensor_names(form["arguments"])
            tensors = {names[value["tensor"]]: value for value in group.get("values", ())}
            yield self._sites[form["site"]]["function"], group, dict(form["arguments"]), tensors
