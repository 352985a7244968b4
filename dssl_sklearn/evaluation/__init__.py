"""Did pretraining help? Paired comparison of methods on the same folds."""

from __future__ import annotations

from dssl_sklearn.evaluation.comparison import compare_pretraining
from dssl_sklearn.evaluation.result import PretrainingComparison

__all__ = ["PretrainingComparison", "compare_pretraining"]
