"""The forms of FlashInfer 0.7.2: index tensors in a dataclass, query and cache as one tensor or a pair."""
import dataclasses

from .api_logging import flashinfer_api


@dataclasses.dataclass(frozen=True)
class MLAPlanMetadata:
    qo_indptr: object = None
    kv_indptr: object = None
    kv_indices: object = None
    kv_len_arr: object = None
    cum_seq_lens_q: object = None
    block_tables: object = None
    seq_lens: object = None
    max_q_len: object = None


class BatchMLAPagedAttentionWrapper:
    @flashinfer_api
    def __init__(self, float_workspace_buffer, backend="auto"):
        pass

    @flashinfer_api
    def plan(self, qo_indptr=None, kv_indptr=None, kv_indices=None, kv_len_arr=None, num_heads=None, head_dim_ckv=None, head_dim_kpe=None,
             page_size=None, causal=None, sm_scale=None, q_data_type=None, kv_data_type=None, *, metadata=None, cum_seq_lens_q=None,
             block_tables=None, seq_lens=None, max_q_len=None, use_sinks=False):
        pass

    @flashinfer_api
    def run(self, q_nope=None, q_pe=None, ckv_cache=None, kpe_cache=None, out=None, lse=None, return_lse=False, *, query=None, kv_cache=None,
            sinks=None, bmm1_scale=None, bmm2_scale=None):
        return query
