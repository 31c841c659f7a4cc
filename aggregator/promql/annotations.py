"""What a query wants to tell its reader beside the result, worded as Prometheus words it."""

MAX_ANNOTATIONS = 50


class Annotations:
    """Deduplicated warnings and infos of one query, in order of first appearance.

    `at` gives a view that adds to the same lists but ends each text with a place in the query.
    """

    __slots__ = ("_infos", "_place", "_warnings")

    def __init__(self) -> None:
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}
        self._place = ""

    def at(self, line: int, column: int) -> "Annotations":
        """Return a view whose texts end with the place, as in `… (1:5)`."""
        view = Annotations()
        view._warnings, view._infos = self._warnings, self._infos
        view._place = f" ({line}:{column})"
        return view

    def warn(self, text: str) -> None:
        """Add a `PromQL warning: …`; *text* comes without that prefix."""
        self._add(self._warnings, f"PromQL warning: {text}{self._place}")

    def info(self, text: str) -> None:
        """Add a `PromQL info: …`; *text* comes without that prefix."""
        self._add(self._infos, f"PromQL info: {text}{self._place}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far."""
        return tuple(self._warnings)

    @property
    def infos(self) -> tuple[str, ...]:
        """The infos so far."""
        return tuple(self._infos)

    @staticmethod
    def _add(texts: dict[str, None], text: str) -> None:
        if len(texts) < MAX_ANNOTATIONS:
            texts[text] = None
