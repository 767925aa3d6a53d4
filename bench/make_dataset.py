"""Writes datasets of decode workloads with large index tensors, for bench/merge:

    python3 bench/make_dataset.py OUT DEFINITIONS.tar.gz WORKLOADS [INDICES]

INDICES int32 values each; seeds follow OUT's name, so that different folders hold different workloads."""
import array, json, pathlib, random, struct, sys, tarfile, uuid

NAME = "gqa_paged_decode_h32_kv8_d128_ps1"


def blob(indptr, indices):
    entries, offset = {}, 0
    for name, values in (("kv_indptr", indptr), ("kv_indices", indices)):
        size = 4 * len(values)
        entries[name] = {"dtype": "I32", "shape": [len(values)], "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + indptr.tobytes() + indices.tobytes()


def main():
    out, definitions, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    most = int(sys.argv[4]) if len(sys.argv) > 4 else 25_000
    draw = random.Random(out.name)
    with tarfile.open(definitions) as tar: tar.extractall(out)
    folder = out / "blob/workloads/gqa_paged" / NAME
    folder.mkdir(parents=True)
    (out / "workloads/gqa_paged").mkdir(parents=True)
    pool = array.array("i", range(1 << 20))
    with open(out / "workloads/gqa_paged" / f"{NAME}.jsonl", "w") as lines:
        for _ in range(count):
            batch = draw.choice((1, 2, 4, 8, 16, 32, 64, 128))
            cuts = sorted(draw.randrange(1, most) for _ in range(batch - 1))
            indptr = array.array("i", [0, *cuts, most])
            start = draw.randrange(len(pool) - most)
            indices = pool[start:start + most]
            indices[0], indices[-1] = indices[-1], indices[0]
            name = str(uuid.UUID(int=draw.getrandbits(128)))
            path = f"blob/workloads/gqa_paged/{NAME}/{NAME}_{name}.safetensors"
            (out / path).write_bytes(blob(indptr, indices))
            stored = lambda key: {"type": "safetensors", "path": "./" + path, "tensor_key": key}
            lines.write(json.dumps({"definition": NAME, "solution": None, "workload": {"uuid": name, "axes":
                {"batch_size": batch, "num_pages": len(pool), "len_indptr": batch + 1, "num_kv_indices": most}, "inputs":
                {"q": {"type": "random"}, "k_cache": {"type": "random"}, "v_cache": {"type": "random"}, "kv_indptr": stored("kv_indptr"),
                 "kv_indices": stored("kv_indices"), "sm_scale": {"type": "scalar", "value": 0.08838834764831845}}},
                "evaluation": None}, separators=(",", ":")) + "\n")


main()
