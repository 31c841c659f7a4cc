"""What is said of clusters, found again where it may have changed."""

from aggregator.fleet.changing import Changing, Finding

HOUR_MS = 3_600_000


class Source:
    """What there is to say of each cluster, and which of them were asked about."""

    def __init__(self, **said):
        self.said, self.asked = said, []
        self.changing = Changing(said, self.find)

    def find(self, name, now_ms):
        """Return what is said of *name*, with the hour, which holds until it is over."""
        self.asked.append(name)
        hour = now_ms // HOUR_MS
        said = [f"{text} at {hour}" for text in self.said[name]]
        return Finding(said, hour * HOUR_MS, (hour + 1) * HOUR_MS)

    def at(self, now_ms):
        """Return what is said of all, and of which clusters it was found now."""
        self.asked.clear()
        return self.changing.at(now_ms), sorted(self.asked)


def test_found_once():
    """What did not change is not found again; everything comes in the order of the clusters."""
    source = Source(b=["late", "gap"], a=[], c=["down"])
    said = ("late at 0", "gap at 0", "down at 0")
    assert source.at(1) == (said, ["a", "b", "c"])
    assert source.at(2) == (said, [])


def test_changed():
    """Only what changed is found again; a cluster that nobody knows is left alone."""
    source = Source(a=[], b=["down"])
    source.at(1)
    source.said["a"] = ["late"]
    source.changing.changed("a")
    source.changing.changed("gone")
    assert source.at(2) == (("late at 0", "down at 0"), ["a"])


def test_time():
    """What time changes is found again when it is due, and when the clock was set back."""
    source = Source(a=["late"])
    assert source.at(0) == (("late at 0",), ["a"])
    assert source.at(HOUR_MS + 1_000) == (("late at 1",), ["a"])
    assert source.at(HOUR_MS) == (("late at 1",), [])
    assert source.at(HOUR_MS - 1) == (("late at 0",), ["a"])
    assert source.at(HOUR_MS) == (("late at 1",), ["a"])
