"""The stages of a search, in order."""

from typing import Literal, get_args

Stage = Literal["policy", "cache", "semantic", "lookup", "vector", "merge"]
STAGES: tuple[Stage, ...] = get_args(Stage)
