"""What is measured. Each module has two functions.

- ``measure(plan, earlier)`` measures everything once and returns it, raw; ``earlier`` is what it
  has returned in this run before.
- ``rows(repetitions)`` makes the table's rows of all that ``measure`` has returned.
"""

from types import ModuleType

from . import alone, calls, fanout, host, memory, relay, scaling

ALL: dict[str, ModuleType] = {
    "calls": calls,
    "fanout": fanout,
    "host": host,
    "alone": alone,
    "memory": memory,
    "scaling": scaling,
    "relay": relay,
}
