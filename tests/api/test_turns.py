"""The lines in which jobs wait."""

from aggregator.api.turns import Turn, Turns


def _names(turns):
    taken = []
    while (turn := turns.take(lambda _client, _line: True)) is not None:
        taken.append(turn.client + turn.line)
    return taken


def test_clients_and_lines_take_turns():
    """Clients are served in turns, and each client's lines too."""
    turns = Turns()
    for name in ("a1", "a1", "a1", "a2", "b1", "b1"):
        assert turns.add(Turn(name[0], name[1], print))
    assert len(turns) == 6
    assert _names(turns) == ["a1", "b1", "a2", "b1", "a1", "a1"]
    assert not turns


def test_who_may_not_start_is_passed_over():
    """A line that may not start keeps its place."""
    turns = Turns()
    for client in ("a", "b"):
        assert turns.add(Turn(client, "", print))
    assert turns.take(lambda client, _line: client == "b").client == "b"
    assert turns.take(lambda client, _line: client == "b") is None
    assert _names(turns) == ["a"]
