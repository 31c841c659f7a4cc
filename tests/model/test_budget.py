"""What a query may cost."""

import pytest

from aggregator.errors import QueryExecutionError, QueryTimeoutError
from aggregator.model.budget import Budget


def test_the_same_work_again_has_the_same_limits():
    """What is spent counts anew; the limits, the deadline and a cancellation hold for both."""
    seconds = 0.0
    budget = Budget(
        timeout_seconds=10, max_samples=5, max_series=4, may_use_disk=False, clock=lambda: seconds
    )
    budget.spend_samples(5)
    seconds = 9.0
    again = budget.again()
    assert again.remaining_seconds == 1.0
    again.spend_samples(5)
    with pytest.raises(QueryExecutionError, match="more than 5 samples"):
        again.spend_samples(1)
    with pytest.raises(QueryExecutionError, match="more than the 4 allowed"):
        again.spend_series(5)
    with pytest.raises(QueryTimeoutError, match="needs the disk"):
        again.use_disk()
    seconds = 11.0
    with pytest.raises(QueryTimeoutError, match="timed out after 10 s"):
        again.check()
    budget.cancel("nobody waits")
    with pytest.raises(QueryTimeoutError, match="nobody waits"):
        again.check()
