"""What SGLang's own scheduler ran, to compare a recording with: of every decode plan the sequence lengths and the SHA-256 of
the page table's rows, taken from the request-to-token map before FlashInfer is told anything. It waits for the device, so it is
for tests of truth, not of speed. On PYTHONPATH, with PROBE naming the file to append to.
"""
import hashlib
import importlib.util
import json
import os
import sys

CLASSES = {
    "sglang.srt.layers.attention.flashinfer_backend": "FlashInferIndicesUpdaterDecode",
    "sglang.srt.layers.attention.flashinfer_mla_backend": "FlashInferMLAIndicesUpdaterDecode",
}


class Probe:
    busy = False

    def find_spec(self, name, path=None, target=None):
        if name not in CLASSES or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            watch(getattr(module, CLASSES[name]))

        spec.loader.exec_module = exec_module
        return spec


def watch(updater):
    import torch

    original = updater.call_begin_forward
    out = open(f"{os.environ['PROBE']}.{os.getpid()}.jsonl", "a", buffering=1)

    def call_begin_forward(self, wrapper, requests, lengths, *args, **kwargs):
        if not torch.cuda.is_current_stream_capturing():
            lens = lengths.cpu().tolist()
            rows = self.req_to_token[requests.long()].cpu()
            indices = torch.cat([rows[i, :n] for i, n in enumerate(lens)]).int().numpy().tobytes()
            out.write(json.dumps({"lengths": lens, "sha256": hashlib.sha256(indices).hexdigest()}) + "\n")
        return original(self, wrapper, requests, lengths, *args, **kwargs)

    updater.call_begin_forward = call_begin_forward


if os.environ.get("PROBE"):
    sys.meta_path.insert(0, Probe())
