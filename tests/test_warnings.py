"""Where warnings point."""

import pytest
from pymatgen.core import Lattice, Structure
from sklearn.pipeline import make_pipeline

from dssl_sklearn import StructureToGraph
from dssl_sklearn.estimators.targets import class_targets
from dssl_sklearn.exceptions import IsolatedSiteWarning, SkippedStructuresWarning
from dssl_sklearn.model_selection import FormulaKFold

HUGE = Structure(Lattice.cubic(20.0), ["C"], [[0, 0, 0]])
IRON = Structure(Lattice.cubic(3.0), ["Fe"], [[0, 0, 0]])


@pytest.mark.parametrize(
    "call, category",
    [
        (lambda: StructureToGraph().fit_transform([HUGE]), IsolatedSiteWarning),
        (
            lambda: make_pipeline(StructureToGraph(on_error="skip")).fit_transform([HUGE, None]),
            SkippedStructuresWarning,
        ),
        (lambda: list(FormulaKFold(2).split([HUGE, IRON], groups=[0, 1])), UserWarning),
        (lambda: class_targets(["a", "none"]), UserWarning),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_they_point_at_the_code_of_the_user(call, category):
    with pytest.warns(category) as caught:
        call()
    assert {warning.filename for warning in caught} == {__file__}
