"""A running API for the client's tests: the same as the API's own."""

from tests.api.conftest import api, run

__all__ = ["api", "run"]
