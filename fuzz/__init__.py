"""Fuzzers for what takes bytes: see ``__main__``."""
