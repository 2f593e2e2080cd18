from __future__ import annotations
import numpy as np
def dual_bound(problem, x, witness):
    return np.full(problem.batch_shape, np.nan)
