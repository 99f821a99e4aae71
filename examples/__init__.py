"""Examples to run: ``python -m examples.docsearch``, ``python -m examples.tcp_server``."""
