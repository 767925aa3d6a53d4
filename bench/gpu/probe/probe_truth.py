"""What SGLang's own scheduler ran, to compare a recording with: of every decode plan the sequence lengths and the SHA-256 of
the page table's rows, taken from the request-to-token map before FlashInfer is told anything. It waits for the device, so it is
for tests of truth, not of speed. PROBE names the file to append to.
"""
import hashlib
import json
import os


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


MODULES = {
    "sglang.srt.layers.attention.flashinfer_backend": lambda module: watch(module.FlashInferIndicesUpdaterDecode),
    "sglang.srt.layers.attention.flashinfer_mla_backend": lambda module: watch(module.FlashInferMLAIndicesUpdaterDecode),
}
