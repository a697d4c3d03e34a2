"""How many threads the libraries of a worker process use: they are told by variables, before they are loaded."""

from __future__ import annotations

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",  # XLA on CPU
)
