"""The accuracy benchmark: every method on the same folds, with `run.py` and `report.py`."""
