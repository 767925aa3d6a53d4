from .api_logging import flashinfer_api


@flashinfer_api
def top_k_top_p_sampling_from_probs(probs, top_k, top_p, indices=None, filter_apply_order: str = "top_k_first"):
    if filter_apply_order == "top_k_first":
        return top_p_sampling_from_probs(probs, top_p)
    return probs


@flashinfer_api
def top_k_mask_logits(logits, top_k):
    return logits


@flashinfer_api
def top_p_sampling_from_probs(probs, top_p, indices=None):
    return probs
