"""The samples: breast cancer, 569 of them with 30 features each, as they ship with scikit-learn; which of them are for what.

(Street, Wolberg, Mangasarian: Nuclear feature extraction for breast tumor diagnosis, 1993.) They are shuffled once, by a seed that never
changes: 250 to train on, 150 to check on, and the rest comes in batches to be predicted. A model never sees what it is checked on.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

TRAINING, CHECK = slice(0, 250), slice(250, 400)
FIRST, LAST = 400, 569  # to be predicted
BATCH = 40


class Samples(NamedTuple):
    """`values` by sample and feature; `malignant` by sample."""

    features: tuple[str, ...]
    values: Any
    malignant: Any

    def columns(self, features: tuple[str, ...]) -> list[int]:
        """Which columns these features are; none named: all. Raises ValueError for one that is not there."""
        return [self.features.index(name) for name in features] if features else list(range(len(self.features)))


@cache
def samples() -> Samples:
    from sklearn.datasets import load_breast_cancer  # here: it takes seconds, and only who needs the samples should wait for it

    given = load_breast_cancer()
    order = np.random.default_rng(1993).permutation(len(given.target))
    return Samples(tuple(map(str, given.feature_names)), given.data[order], given.target[order] == 0)
