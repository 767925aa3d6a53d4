"""Dumps whose truth is known, and dumps of real runs: every call ends where it belongs."""
import collections, json, os, unittest

from support import DATA, DatasetTest, run, tensor, tree, unpack, workloads


def records(dumps):
    """(function, call) -> the last record, of every call folder."""
    found = {}
    for folder in dumps.iterdir():
        if folder.is_dir():
            record = json.loads((folder / "metadata.jsonl").read_text().splitlines()[-1])
            found[record["function_name"], record["call_sequence"]] = (record, folder)
    return found


def plan_indices(folder, record, argument, count):
    """The first `count` index entries of a plan, read apart from the tool."""
    import struct
    data = (folder / "inputs.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    begin, end = json.loads(data[8:8 + length])[argument]["data_offsets"]
    return list(memoryview(data[8 + length + begin:8 + length + end]).cast("i"))[:count]


INDICES = {"BatchDecodeWithPagedKVCacheWrapper": "arg_2", "BatchPrefillWithPagedKVCacheWrapper": "arg_3", "BatchMLAPagedAttentionWrapper": "arg_3"}


def expected(truth, plans):
    """Definition -> how often each (axes, indices) is to be seen, from the truth file alone."""
    result = collections.defaultdict(collections.Counter)
    for call in truth:
        axes, kind = call["axes"], call["fn"].split(".")[0]
        if kind == "BatchPrefillWithRaggedKVCacheWrapper":
            name, seen = "gqa_ragged_prefill_causal_h32_kv8_d128", {k: axes[k] for k in ("total_q", "total_kv", "len_indptr")}
            result[name][json.dumps(seen, sort_keys=True), ()] += 1
            continue
        record, folder = plans[call["plan_fn"], call["plan_call"]]
        indices = tuple(plan_indices(folder, record, INDICES[kind], axes["num_kv_indices"]))
        seen = {"num_kv_indices": axes["num_kv_indices"], "len_indptr": axes["len_indptr"], "num_pages": max(indices) + 1}
        if kind == "BatchMLAPagedAttentionWrapper":
            name = "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1" if axes["causal"] else "mla_paged_decode_h16_ckv512_kpe64_ps1"
            seen["total_q" if axes["causal"] else "batch_size"] = axes["batch_size"]
        elif kind == "BatchPrefillWithPagedKVCacheWrapper":
            if not axes["causal"]: continue  # the prefix half: no definition
            name = f"gqa_paged_prefill_causal_h32_kv8_d128_ps{axes['page_size']}"
            seen["total_q"] = axes["total_q"]
            if axes["page_size"] == 64: seen["batch_size"] = axes["batch_size"]
        else:
            name = f"gqa_paged_decode_h{axes['num_qo_heads']}_kv{axes['num_kv_heads']}_d128_ps{axes['page_size']}"
            if name == "gqa_paged_decode_h16_kv4_d128_ps1": continue  # another model: no definition
            seen["batch_size"] = axes["batch_size"]
        result[name][json.dumps(seen, sort_keys=True), indices] += 1
    return result


class Truth(DatasetTest):
    def check_against_truth(self, dumps, truth_file):
        truth = [json.loads(line) for line in truth_file.read_text().splitlines()]
        collection = self.sanitize(dumps, "--select", "all")
        wanted = expected(truth, records(unpack("cpu-small", self.folder / "plain") if "-pt" in dumps.name else dumps))
        seen = collections.defaultdict(collections.Counter)
        by_id = {w["uuid"]: (name, w) for name, ws in workloads(self.trace).items() for w in ws}
        for name, definition in collection["definitions"].items():
            if not name.startswith(("gqa", "mla")): continue
            for kept in definition["workloads"]:
                inputs = by_id[kept["uuid"]][1]["inputs"]
                indices = tuple(tensor(self.trace, inputs["kv_indices"])) if "kv_indices" in inputs else ()
                seen[name][json.dumps(by_id[kept["uuid"]][1]["axes"], sort_keys=True), indices] += kept["seen"]
        self.assertEqual(seen, wanted)
        scales = {name: {round(w["inputs"]["sm_scale"]["value"], 12) for w in ws} for name, ws in workloads(self.trace).items() if name in wanted}
        for name, values in scales.items():
            # (FlashInfer computes its default as 1 / sqrt(d), the caller of these dumps d ** -0.5: one ulp apart.)
            self.assertEqual(values, {round(192 ** -0.5 if name.startswith("mla") else 128 ** -0.5, 12)}, name)
        return tree(self.trace)

    def test_cpu_small(self):
        self.check_against_truth(unpack("cpu-small", self.folder), DATA / "cpu-small.truth.jsonl")

    def test_both_formats_give_the_same_bytes(self):
        first = self.check_against_truth(unpack("cpu-small", self.folder), DATA / "cpu-small.truth.jsonl")
        self.trace = self.new_trace("other")
        # The two sets were made by two processes; everything but the capture's id and its calls' names agrees.
        second = self.check_against_truth(unpack("cpu-small-pt", self.folder), DATA / "cpu-small-pt.truth.jsonl")
        self.assertEqual({p: h for p, h in first.items() if p != "collection.json"}, {p: h for p, h in second.items() if p != "collection.json"})

    def test_every_call_is_accounted_for(self):
        collection = self.sanitize(unpack("cpu-small", self.folder))
        for name, counts in collection["functions"].items():
            plans = counts["calls"] if name.endswith(".plan") else 0
            self.assertEqual(counts["calls"], counts["bound"] + counts["rejected"] + counts["skipped"] + plans, name)
        self.assertEqual({d["name"]: d["count"] for d in collection["defects"] if d["name"] == "prefix_half"}, {"prefix_half": 2})

    def test_a_captured_graph(self):
        collection = self.sanitize(unpack("cpu-graph", self.folder), check=3)
        self.assertEqual([(d["name"], d["count"]) for d in collection["defects"]], [("captured_in_cuda_graph", 1)])
        self.assertEqual(collection["graph_flushes"], 4)

    def test_sglang_on_an_h200(self):
        collection = self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))
        calls = {name: d["calls"] for name, d in collection["definitions"].items()}
        self.assertEqual(calls, {"fused_add_rmsnorm_h4096": 9, "gqa_paged_decode_h32_kv8_d128_ps1": 16, "gqa_ragged_prefill_causal_h32_kv8_d128": 4,
                                 "rmsnorm_h4096": 9, "top_k_top_p_sampling_from_probs_v128256": 1})
        for name in ("gqa_paged_decode_h32_kv8_d128_ps1", "gqa_ragged_prefill_causal_h32_kv8_d128"):
            self.assertEqual(collection["definitions"][name]["derived_calls"]["sm_scale"], calls[name])
        # Eight decode steps of one sequence that grows from 7 tokens, two layers each.
        decode = workloads(self.trace)["gqa_paged_decode_h32_kv8_d128_ps1"]
        self.assertEqual(sorted(w["axes"]["num_kv_indices"] for w in decode), list(range(7, 15)))
        self.assertEqual({k["seen"] for k in collection["definitions"]["gqa_paged_decode_h32_kv8_d128_ps1"]["workloads"]}, {2})

    def test_sglang_with_cuda_graphs(self):
        """Level 10 sees the warm-up before the captures, with one token a sequence, and nothing of the traffic."""
        dumps = unpack("sglang-0.5.17-llama-cudagraph", self.folder)
        collection = self.sanitize(dumps, check=3)
        self.assertEqual({d["name"]: d["count"] for d in collection["defects"]}, {"captured_in_cuda_graph": 6, "suspicious_dummy": 4, "before_traffic": 8})
        self.assertEqual(workloads(self.trace), {})
        collection = self.sanitize(dumps, "--include-suspicious")
        self.assertEqual({d["name"]: d["count"] for d in collection["defects"]}, {"captured_in_cuda_graph": 6, "capture_warmup": 3})
        decode = collection["definitions"]["gqa_paged_decode_h32_kv8_d128_ps1"]
        self.assertEqual(decode["calls"], 12)
        self.assertTrue(all(w["capture_warmup"] and w["suspicious"] for w in decode["workloads"]))  # dummies, and it says so

    def test_vllm_recorded_before_its_warm_up_had_rules(self):
        """vLLM 0.33.0 on an H200: 530 calls of its warm-up go, all 482 of its traffic stay, among them prefills whose pages
        begin within the whole batch's, and decodes that graphs fill up with rows without a page."""
        folder = self.trace / "definitions/gqa_paged"
        for kind in ("decode", "prefill_causal"):
            name = f"gqa_paged_{kind}_h32_kv8_d128_ps"
            definition = json.loads((folder / f"{name}64.json").read_text())
            definition["name"], definition["axes"]["page_size"]["value"] = f"{name}16", 16
            (folder / f"{name}16.json").write_text(json.dumps(definition))
        dumps = unpack("vllm-0.33.0-wrapper", self.folder)
        collection = self.sanitize(dumps, "--select", "all")
        decode, prefill = (collection["definitions"][f"gqa_paged_{kind}_h32_kv8_d128_ps16"] for kind in ("decode", "prefill_causal"))
        self.assertEqual((decode["calls"], prefill["calls"], decode["padded_calls"]), (328, 154, 98))
        self.assertEqual([sum(w["stands_for"] for w in d["workloads"]) for d in (decode, prefill)], [328, 154])
        self.assertEqual({(d["name"], d.get("function", "").split(".")[0]): d["count"] for d in collection["defects"] if d["name"] != "recording_not_ended"},
                         {("before_traffic", "BatchDecodeWithPagedKVCacheWrapper"): 522, ("before_traffic", "BatchPrefillWithPagedKVCacheWrapper"): 8,
                          ("before_traffic", "top_p_sampling_from_probs"): 5})
        # Rows without a page are there, as the kernel saw them, and the real number beside.
        beside = {w["uuid"]: w["sequences"] for w in decode["workloads"] if "sequences" in w}
        made = workloads(self.trace)
        self.assertGreater(len(beside), 20)
        for workload in made["gqa_paged_decode_h32_kv8_d128_ps16"]:
            indptr, last = (tensor(self.trace, workload["inputs"][name]) for name in ("kv_indptr", "kv_last_page_len"))
            empty = [a == b for a, b in zip(indptr, indptr[1:])]
            self.assertEqual(beside.get(workload["uuid"], len(empty)), empty.count(False))
            self.assertEqual([length for length, is_empty in zip(last, empty) if is_empty], [0] * empty.count(True))
        for workload in made["gqa_paged_prefill_causal_h32_kv8_d128_ps16"]:
            indptr, indices = (tensor(self.trace, workload["inputs"][name]) for name in ("kv_indptr", "kv_indices"))
            self.assertEqual((indptr[0], indptr[-1]), (0, len(indices)))
        run("validate", "--trace-dir", self.trace, check=0)

    def test_threads_and_order_do_not_matter(self):
        dumps = unpack("cpu-small", self.folder)
        other = unpack("sglang-0.5.17-llama-ps1", self.folder)
        reference = None
        for i, (threads, folders) in enumerate([(1, [dumps, other]), (8, [other, dumps]), (8, [self.folder / "reversed"]), (2, [dumps, other, dumps])]):
            if folders[0].name == "reversed":  # the same calls, listed in another order by the file system
                for source in (dumps, other):
                    target = folders[0] / source.name
                    target.mkdir(parents=True)
                    for path in sorted(source.iterdir(), reverse=True):
                        if path.is_dir(): os.symlink(path, target / path.name)
                        else: (target / path.name).write_bytes(path.read_bytes())
            trace = self.new_trace(f"trace{i}")
            run("sanitize", "--dumps", *folders, "--trace-dir", trace, "--threads", threads, check=0)
            if reference is None: reference = tree(trace)
            self.assertEqual(tree(trace), reference)


if __name__ == "__main__": unittest.main()
