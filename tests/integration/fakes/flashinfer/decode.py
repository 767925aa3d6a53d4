from . import version  # noqa: F401
from .api_logging import flashinfer_api


class BatchDecodeWithPagedKVCacheWrapper:
    @flashinfer_api
    def __init__(self, float_workspace_buffer, kv_layout: str = "NHD", use_cuda_graph: bool = False) -> None:
        self._kv_layout = kv_layout

    @flashinfer_api(trace="a template")
    def plan(self, indptr, indices, last_page_len, num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int,
             q_data_type=None, data_type=None, sm_scale=None, non_blocking: bool = True) -> None:
        self._sm_scale = sm_scale

    begin_forward = plan

    def forward(self, q, paged_kv_cache, sm_scale=None, window_left: int = -1, logits_soft_cap=None):
        self._sm_scale, self._window_left, self._logits_soft_cap = sm_scale, window_left, logits_soft_cap
        return self.run(q, paged_kv_cache)

    @flashinfer_api
    def run(self, q, paged_kv_cache, q_scale=None, k_scale=None, v_scale=None, out=None):
        if q is None:
            raise ValueError("no q")
        return q


def fast_decode_plan(self, indptr, indices, last_page_len, num_qo_heads: int, num_kv_heads: int, head_dim: int,
                     page_size: int, data_type=None, q_data_type=None, sm_scale=None, global_override_indptr_cpu=None) -> None:
    self._sm_scale = sm_scale
