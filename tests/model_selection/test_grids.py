import pytest
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.model_selection import embedding_svr_grid, fine_tuning_grid


@pytest.mark.parametrize("model", [DSSLRegressor(pretrained="mp"), DSSLClassifier()])
def test_the_fine_tuning_grid_fits_the_predictors(model):
    grid = ParameterGrid(fine_tuning_grid())
    assert len(grid) <= 8
    for params in grid:
        model.set_params(**params)
    in_pipeline = make_pipeline(StandardScaler(), model)
    in_pipeline.set_params(**ParameterGrid(fine_tuning_grid(f"{in_pipeline.steps[1][0]}__"))[0])


def test_the_defaults_are_in_the_grids():
    recipe = FINE_TUNE_RECIPES["default"]
    default = {"lr": recipe.lr, "backbone_lr_factor": recipe.backbone_lr_factor}
    assert {**default, "freeze_epochs": 0} in list(ParameterGrid(fine_tuning_grid()))
    of_svr = {"C": SVR().C, "gamma": SVR().gamma, "epsilon": SVR().epsilon}
    assert of_svr in list(ParameterGrid(embedding_svr_grid("")))


def test_the_svr_grid_fits_the_pipeline():
    pipeline = make_pipeline(DSSLPretrainer(pretrained="mp", max_epochs=0), StandardScaler(), SVR())
    for params in ParameterGrid(embedding_svr_grid()):
        pipeline.set_params(**params)


def test_grids_are_fresh():
    fine_tuning_grid()["lr"].append(0.1)
    assert 0.1 not in fine_tuning_grid()["lr"]


@pytest.mark.parametrize("make", [fine_tuning_grid, embedding_svr_grid])
def test_a_prefix_without_underscores_is_refused(make):
    with pytest.raises(InvalidInputError, match="such as 'svr__'"):
        make("svr_")
