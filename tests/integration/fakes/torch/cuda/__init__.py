from .graphs import CUDAGraph  # noqa: F401
