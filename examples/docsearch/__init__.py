"""A small search service over Python's own language reference, with a live picture of its pipeline.

Run it with ``python -m examples.docsearch --traffic 20`` and open the address it prints.
"""
