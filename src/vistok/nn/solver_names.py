"""The names of solvers, for configs, which need no torch."""

from typing import Literal

SolverName = Literal["euler", "heun", "ddim", "multistep", "renoise", "double_step"]
