"""The decorator's two forms, as at level 0."""


def flashinfer_api(func=None, *, trace=None):
    if func is None:
        return lambda f: f
    return func
