__version__ = "0.6.15.post1"
