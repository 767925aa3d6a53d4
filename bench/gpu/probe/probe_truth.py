"""What an engine's own scheduler ran, to compare a recording with. PROBE names the file to append to, a line of JSON a step.

SGLang: of every decode plan the sequence lengths and the SHA-256 of the page table's rows, taken from the request-to-token map
before FlashInfer is told anything. It waits for the device, so it is for tests of truth, not of speed.

vLLM: of every step that its scheduler hands out, for each request how many tokens are computed, how long its sequence is then, and
the SHA-256 of its blocks as far as that sequence goes; on the host, before a model runner sees it.
"""
import hashlib
import inspect
import json
import os
import struct


def watch_sglang(updater):
    import torch

    original, original_init = updater.call_begin_forward, updater.__init__
    parameters = inspect.signature(original)
    out = open(f"{os.environ['PROBE']}.{os.getpid()}.jsonl", "a", buffering=1)

    def __init__(self, model_runner, *args, **kwargs):
        self._probe_pool = model_runner.req_to_token_pool
        original_init(self, model_runner, *args, **kwargs)

    def call_begin_forward(self, *args, **kwargs):
        if not torch.cuda.is_current_stream_capturing():
            given = parameters.bind(self, *args, **kwargs).arguments
            lens = given["paged_kernel_lens"].cpu().tolist()
            rows = self._probe_pool.req_to_token[given["req_pool_indices"].long()].cpu()
            indices = torch.cat([rows[i, :n] for i, n in enumerate(lens)]).int().numpy().tobytes()
            out.write(json.dumps({"lengths": lens, "sha256": hashlib.sha256(indices).hexdigest()}) + "\n")
        return original(self, *args, **kwargs)

    updater.__init__, updater.call_begin_forward = __init__, call_begin_forward


def watch_vllm(scheduler):
    original = scheduler.schedule
    out = open(f"{os.environ['PROBE']}.{os.getpid()}.jsonl", "a", buffering=1)

    def schedule(self, *args, **kwargs):
        step = original(self, *args, **kwargs)
        requests = []
        for name, count in step.num_scheduled_tokens.items():
            length = self.requests[name].num_computed_tokens  # this step's are counted already
            blocks = self.kv_cache_manager.get_block_ids(name)[0][: -(-length // self.block_size)]
            digest = hashlib.sha256(struct.pack(f"<{len(blocks)}i", *blocks)).hexdigest()
            requests.append([count, length, digest])
        if requests:
            out.write(json.dumps(requests) + "\n")
        return step

    scheduler.schedule = schedule


MODULES = {
    "sglang.srt.layers.attention.flashinfer_backend": lambda module: watch_sglang(module.FlashInferIndicesUpdaterDecode),
    "sglang.srt.layers.attention.flashinfer_mla_backend": lambda module: watch_sglang(module.FlashInferMLAIndicesUpdaterDecode),
    "vllm.v1.core.sched.scheduler": lambda module: watch_vllm(module.Scheduler),
}
