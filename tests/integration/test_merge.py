"""merge: any order and grouping gives the same bytes; contradictions are named and nothing is written."""
import itertools, json, os, pathlib, resource, shutil, signal, subprocess, time, unittest

from support import BINARY, DatasetTest, run, tree, unpack, workloads

DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
LINES = f"workloads/gqa_paged/{DECODE}.jsonl"


class MergeTest(DatasetTest):
    def setUp(self):
        super().setUp()
        self.parts = []
        for name, dumps in (("a", "sglang-0.5.17-llama-ps1"), ("b", "cpu-small"), ("c", "sglang-0.5.17-llama-cudagraph")):
            trace = self.new_trace(name)
            # (Of the third all is an engine's warm-up.)
            self.sanitize(unpack(dumps, self.folder), "--select", "all", "--include-suspicious", trace=trace)
            self.parts.append(trace)

    def merge(self, *inputs, out, options=(), check=0):
        result = run("merge", *inputs, "--out", self.folder / out, *options, check=check)
        return self.folder / out if check == 0 else result

    def lines(self, trace):
        return [json.loads(line) for line in (trace / LINES).read_text().splitlines()]

    def write_lines(self, trace, lines):
        (trace / LINES).write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))

    def seen(self, trace):
        """Definition -> uuid -> how often, over all captures."""
        counts = {}
        for capture in json.loads((trace / "collection.json").read_text())["captures"]:
            for name, definition in capture["definitions"].items():
                for item in definition.get("workloads", []):
                    counts.setdefault(name, {}).setdefault(item["uuid"], 0)
                    counts[name][item["uuid"]] += item["seen"]
        return counts

    def test_any_order_and_any_grouping(self):
        a, b, c = self.parts
        expected = tree(self.merge(a, b, c, out="abc"))
        for i, order in enumerate(itertools.permutations(self.parts)):
            self.assertEqual(tree(self.merge(*order, out=f"order{i}")), expected)
            pair = self.merge(order[0], order[1], out=f"pair{i}")
            self.assertEqual(tree(self.merge(order[2], pair, out=f"grouped{i}")), expected)
        self.assertEqual(tree(self.merge(self.folder / "abc", a, self.folder / "abc", out="again")), expected, "idempotent")
        self.assertEqual(tree(self.merge(self.folder / "abc", out="alone")), expected)

    def test_everything_is_there_once_and_valid(self):
        merged = self.merge(*self.parts, out="out")
        run("validate", "--trace-dir", merged, check=0)
        distinct, counts = {}, {}
        for part in self.parts:
            for name, items in workloads(part).items(): distinct.setdefault(name, set()).update(w["uuid"] for w in items)
            for name, items in self.seen(part).items():
                for uuid, count in items.items(): counts.setdefault(name, {})[uuid] = counts.get(name, {}).get(uuid, 0) + count
        self.assertEqual({name: {w["uuid"] for w in items} for name, items in workloads(merged).items()},
                         {name: uuids for name, uuids in distinct.items() if uuids})
        self.assertEqual(self.seen(merged), counts)
        self.assertGreater(len(distinct[DECODE]), 5)

    def test_the_same_content_under_another_id(self):
        a = self.parts[0]
        other = self.new_trace("other")
        shutil.copytree(a / "blob", other / "blob"); shutil.copytree(a / "workloads", other / "workloads")
        lines = self.lines(other)
        for i, line in enumerate(lines): line["workload"]["uuid"] = f"00000000-foreign-{i}"
        self.write_lines(other, lines)
        merged = self.merge(a, other, out="out")
        self.assertEqual({w["uuid"] for w in workloads(merged)[DECODE]}, {f"00000000-foreign-{i}" for i in range(len(lines))})
        self.assertEqual(sorted(self.seen(merged)[DECODE].values()), sorted(self.seen(a)[DECODE].values()))
        self.assertEqual(tree(merged), tree(self.merge(other, a, out="turned")))
        run("validate", "--trace-dir", merged, check=0)

    def test_one_id_with_two_contents(self):
        a = self.parts[0]
        other = self.new_trace("other")
        shutil.copytree(a / "blob", other / "blob"); shutil.copytree(a / "workloads", other / "workloads")
        lines = self.lines(other)
        lines[0]["workload"]["inputs"]["sm_scale"]["value"] = 0.5
        self.write_lines(other, lines)
        before = sorted(os.listdir(self.folder))
        result = self.merge(a, other, out="out", check=1)
        self.assertIn(lines[0]["workload"]["uuid"], result.stderr)
        self.assertIn("nothing was written", result.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_one_definition_with_two_meanings(self):
        a, b, _ = self.parts
        path = b / f"definitions/gqa_paged/{DECODE}.json"
        definition = json.loads(path.read_text())
        definition["axes"]["num_kv_heads"]["value"] = 4
        path.write_text(json.dumps(definition))
        result = self.merge(a, b, out="out", check=1)
        self.assertIn(f"definition {DECODE}", result.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_descriptions_may_differ(self):
        a, b, _ = self.parts
        path = b / f"definitions/gqa_paged/{DECODE}.json"
        definition = json.loads(path.read_text())
        definition["description"] = "longer " * 100
        path.write_text(json.dumps(definition, indent=4))
        merged = self.merge(a, b, out="ab")
        self.assertEqual((merged / f"definitions/gqa_paged/{DECODE}.json").read_text(), path.read_text())
        self.assertEqual(tree(merged), tree(self.merge(b, a, out="ba")))

    def test_selection_is_of_the_most_seen_and_forgets_the_rest(self):
        merged = self.merge(*self.parts, out="out", options=["--num-samples", "2"])
        run("validate", "--trace-dir", merged, check=0)
        for name, items in workloads(merged).items():
            self.assertLessEqual(len(items), 2)
            self.assertLessEqual(set(self.seen(merged).get(name, {})), {w["uuid"] for w in items})
        self.assertEqual(tree(merged), tree(self.merge(*reversed(self.parts), out="turned", options=["--num-samples", "2"])))
        # The batch of one, eight times in all, is the most frequent; what is left out counts for what stays.
        self.assertIn(1, [w["axes"]["batch_size"] for w in workloads(merged)["rmsnorm_h4096"]])
        for section in json.loads((merged / "collection.json").read_text())["captures"]:
            for name, definition in section["definitions"].items():
                self.assertEqual(sum(w["stands_for"] for w in definition["workloads"]), definition["calls"], name)

    def test_members_of_others_in_frequencies(self):
        """Whatever somebody has written into an item: merged once or twice it is the same, and counts stay."""
        a = self.parts[0]
        collection = json.loads((a / "collection.json").read_text())
        items = [item for d in collection["captures"][0]["definitions"].values() for item in d["workloads"]]
        for item, odd in zip(items, ({"inherited": 7}, {"stands_for": -1}, {"stands_for": "x"}, {"stands_for": 1e300}, {"more": 1})): item.update(odd)
        (a / "collection.json").write_text(json.dumps(collection))
        once, twice = self.merge(a, out="once"), self.merge(a, a, out="twice")
        self.assertEqual(tree(once), tree(twice))
        self.assertNotIn("inherited", (once / "collection.json").read_text())

    def test_what_is_left_behind_is_named(self):
        for name in ("solutions", "traces", "tests"): (self.parts[0] / name).mkdir()
        (self.parts[0] / ".git").mkdir()
        self.assertIn("Skipped in", run("merge", *self.parts, "--out", self.folder / "out", check=0).stdout)
        said = json.loads(run("merge", *self.parts, "--out", self.folder / "other", "--json", check=0).stdout)
        self.assertEqual(said["left_behind"], {str(self.parts[0]): ["solutions", "tests", "traces"]})
        said = run("report", "--trace-dir", self.parts[0], "--out", self.folder / "r.html", check=0).stderr
        self.assertIn("solutions, tests, traces", " ".join(said.split()))

    def test_flat_datasets_are_datasets(self):
        """Without the folders of op types, as flashinfer-bench's examples lie: every command reads the same in it."""
        a, b, _ = self.parts
        flat = self.folder / "flat"
        shutil.copytree(a, flat)
        for folder in ("definitions", "workloads"):
            for path in list((flat / folder).rglob("*.json*")): path.rename(flat / folder / path.name)
            for path in list((flat / folder).iterdir()): path.is_dir() and path.rmdir()
        self.traces.append(flat)
        said = {trace: [run(*command, check=0).stdout.replace(str(trace), "") for command in
                        (("validate", "--trace-dir", trace), ("report", "--trace-dir", trace, "--json"),
                         ("submit", "--trace-dir", trace, "--remote", self.git_remote(), "--dry-run", "--json"))] for trace in (a, flat)}
        self.assertEqual(said[flat], said[a])
        self.assertEqual(tree(self.merge(flat, b, out="of_flat")), tree(self.merge(a, b, out="of_usual")))

        # As what another dataset is compared with.
        against = {other: json.loads(run("report", "--trace-dir", b, "--against", other, "--json", check=0).stdout) for other in (a, flat)}
        for said in against.values(): said.pop("against", None)
        self.assertEqual(json.dumps(against[flat]).replace(str(flat), ""), json.dumps(against[a]).replace(str(a), ""))

        # What is new is appended where the rest lies, and what was there is known.
        for trace in (a, flat):
            for again in range(2): self.sanitize(self.folder / "cpu-small", "--select", "all", trace=trace)
        self.assertEqual(workloads(flat), workloads(a))
        self.assertEqual(len([p for p in (flat / "workloads").rglob(f"{DECODE}.jsonl")]), 1)
        run("validate", "--trace-dir", flat, check=0)

    def test_references_that_differ_are_named(self):
        a, b, _ = self.parts
        path = b / f"definitions/gqa_paged/{DECODE}.json"
        definition = json.loads(path.read_text())
        definition["reference"] = definition.get("reference", "") + "\n# another one, and longer\n"
        path.write_text(json.dumps(definition, indent=2))
        said = json.loads(self.merge(a, b, out="out", options=["--json"]) and run("merge", a, b, "--out", self.folder / "again", "--json", check=0).stdout)
        self.assertEqual(len(said["differences"]), 1, said)
        self.assertIn(str(b), said["differences"][0])
        self.assertIn(f"Note: the reference of {DECODE}", " ".join(run("merge", b, a, "--out", self.folder / "third", check=0).stdout.split()))

    def git_remote(self):
        remote = self.folder / "remote.git"
        if not remote.exists():
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
            work = self.folder / "work"
            subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
            for command in (["commit", "-q", "--allow-empty", "-m", "begin"], ["push", "-q", remote, "main"]):
                subprocess.run(["git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
        return f"file://{remote}"

    def test_a_dry_run_writes_nothing(self):
        before = tree(self.folder)
        result = run("merge", *self.parts, "--out", self.folder / "out", "--dry-run", "--json", check=0)
        self.assertGreater(json.loads(result.stdout)["distinct"], 5)
        self.assertEqual(tree(self.folder), before)

    def test_bad_input(self):
        a, b, _ = self.parts
        self.assertIn("already exists", self.merge(a, out="b", check=1).stderr)
        self.assertIn("definitions/", self.merge(self.folder / "none", out="out", check=1).stderr)
        blob = next((b / "blob").rglob("*.safetensors"))
        content = blob.read_bytes()
        for damaged, words in ((content[:-3], "safetensors"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
                               (None, "No such file")):
            blob.unlink()
            if damaged is not None: blob.write_bytes(damaged)
            else: pass
            result = self.merge(a, b, out="out", check=1)
            self.assertIn(words, result.stderr)
            self.assertIn("line ", result.stderr)
            if damaged is None: blob.write_bytes(content)
        (b / LINES).write_text("{}\n")
        self.assertIn("run validate", " ".join(self.merge(a, b, out="out", check=1).stderr.split()))
        (a / "collection.json").write_text("[1, 2]")
        self.assertIn("collection.json", self.merge(a, out="out", check=1).stderr)
        self.assertFalse((self.folder / "out").exists() or (self.folder / "out.partial").exists())

    def test_nothing_vanishes(self):
        a, b, _ = self.parts
        other = a / "workloads/elsewhere"
        other.mkdir()
        (a / LINES).rename(other / f"{DECODE}.jsonl")
        self.assertIn("belongs in workloads/gqa_paged", " ".join(self.merge(a, b, out="out", check=1).stderr.split()))
        (other / f"{DECODE}.jsonl").rename(a / LINES)
        other.rmdir()
        lines = self.lines(a)
        lines[0]["definition"] = "rmsnorm_h4096"
        self.write_lines(a, lines)
        self.assertIn("a workload of rmsnorm_h4096", " ".join(self.merge(a, b, out="out", check=1).stderr.split()))
        self.assertIn("is inside", self.merge(b, out="b/definitions/out", check=1).stderr)

    def test_what_a_killed_merge_left_is_taken_away(self):
        expected = tree(self.merge(*self.parts, out="whole"))
        partial = self.folder / "out.partial"
        (partial / "blob").mkdir(parents=True)
        (partial / "blob" / "rest").write_text("of a killed merge")
        self.assertIn("is not an unfinished merge", self.merge(*self.parts, out="out", check=1).stderr)
        self.assertTrue((partial / "blob/rest").exists(), "not ours, as far as one can tell")
        (partial / ".collect-workloads.merge").touch()
        self.assertEqual(tree(self.merge(*self.parts, out="out")), expected)
        self.assertFalse(partial.exists())

    def test_the_inputs_stay_as_they_are(self):
        before = [tree(part) for part in self.parts]
        merged = self.merge(*self.parts, out="out")
        self.assertEqual([tree(part) for part in self.parts], before)
        # Shared bytes are never written through: sanitizing into the result does not reach the inputs.
        self.sanitize(self.folder / "cpu-small", "--select", "all", "--num-pages", "pool", trace=merged)
        self.assertEqual([tree(part) for part in self.parts], before)


if __name__ == "__main__":
    unittest.main()
