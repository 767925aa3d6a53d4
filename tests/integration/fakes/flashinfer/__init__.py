from . import decode, norm, sampling  # noqa: F401
