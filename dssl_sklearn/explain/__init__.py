"""Which sites of a crystal a prediction comes from."""

from dssl_sklearn.explain.attention import attention_weights
from dssl_sklearn.explain.attributions import SiteAttributions
from dssl_sklearn.explain.contributions import site_contributions
from dssl_sklearn.explain.gradients import integrated_gradients

__all__ = ["SiteAttributions", "attention_weights", "integrated_gradients", "site_contributions"]
