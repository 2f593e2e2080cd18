"""Small numerical kernels that evaluate, elementwise and batch-first; none of them searches.

Problems may call them inside ``objective``, ``bound`` or a closed form without becoming solvers.
"""

from rralloc.numerics.complex_step import gradient, perturb
from rralloc.numerics.logexp import (
    expm1_over_x,
    inverse_log1p_excess,
    log1p_excess,
    log_expm1_over_x,
    xlog2_1p,
)
from rralloc.numerics.roots import bracketed_root

__all__ = [
    "bracketed_root",
    "expm1_over_x",
    "gradient",
    "inverse_log1p_excess",
    "log1p_excess",
    "log_expm1_over_x",
    "perturb",
    "xlog2_1p",
]
