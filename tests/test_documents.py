import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from aggregator.documents import MAX_BYTES, format_path, load_document, parse_document
from aggregator.errors import ConfigError

FILE = Path("fleet.yaml")


def bomb() -> bytes:
    """Return nine levels of nine aliases each."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for here, below in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{here}: &{here} [{', '.join([f'*{below}'] * 9)}]")
    return "\n".join(lines).encode()


def test_scalars_follow_the_core_schema():
    """Only numbers, booleans and null are not text; `no`, times and dates stay as written."""
    document = parse_document(
        b"[1, -2, 0x1f, 2.5, 1e3, .inf, true, ~, no, 17:00, 2026-12-01, '5', !!str 5]", FILE
    )
    assert document.data == [
        *(1, -2, 31, 2.5, 1000.0, float("inf"), True, None),
        *("no", "17:00", "2026-12-01", "5", "5"),
    ]


def test_a_small_alias_is_expanded():
    """An alias stands for the value of its anchor."""
    assert parse_document(b"a: &x {b: [1]}\nc: *x\n", FILE).data == {
        "a": {"b": [1]},
        "c": {"b": [1]},
    }


def test_lines_are_those_of_the_key_or_its_nearest_parent():
    """A value's line is its key's line; an unknown path has the line of its parent."""
    document = parse_document(b"a:\n  - b: 1\n  - c:\n      d: 2\n", FILE)
    assert document.line_of(("a", 1, "c", "d")) == 4
    assert document.line_of(("a", 1, "c", "missing", 7)) == 3
    assert document.line_of(()) == 1


def test_a_path_is_written_as_people_write_it():
    """Indexes go in brackets, keys after points."""
    assert format_path(("clusters", 2, "prometheus", "url")) == "clusters[2].prometheus.url"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\nb:\n  c: 1\n  c: 2", "fleet.yaml:4: b.c: the key was given in line 3 already"),
        (bomb(), "aliases expanded"),
        (b"a: &a [*a]", "fleet.yaml:1: refers to an anchor that is not complete"),
        (b"a: !!python/object:os.system x", "tags are not supported"),
        (b"a: !secret [x]", "tags are not supported"),
        (b"[" * 5000, "nests deeper"),
        (b"a: {b: c}\n<<: {b: d}", "fleet.yaml:2: merge keys"),
        (b"? [a]\n: b", "a key must be plain text"),
        (b"a\n---\nb", "more than one document"),
        (b"a:\n\t- b", "fleet.yaml:2: "),
        (b"a: 'x", "fleet.yaml:1: found unexpected end of stream"),
        (b"a: \x00", "fleet.yaml: contains characters"),
        (b"a: b\nc: \xff", "fleet.yaml:2: is not UTF-8"),
        (b" " * (MAX_BYTES + 1), "larger than 8 MiB"),
    ],
)
def test_what_is_refused(text: bytes, message: str):
    """Everything ambiguous, hostile or broken is refused with its place."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_document(text, FILE)


def test_an_error_does_not_quote_the_document():
    """A syntax error beside a secret does not show the secret."""
    with pytest.raises(ConfigError) as caught:
        parse_document(b"password: hunter2\n  token: *hunter3", FILE)
    assert "hunter" not in str(caught.value)


def test_an_empty_document_is_none():
    """A file with nothing but comments says None."""
    assert parse_document(b"# nothing\n", FILE).data is None


def test_a_missing_file_is_a_configuration_error(tmp_path: Path):
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load_document(tmp_path / "absent.yaml")


def test_problems_of_pydantic_get_their_line():
    """What pydantic finds is told with file, line and path, and without the value."""

    class Model(BaseModel):
        port: int

    document = parse_document(b"x:\n  port: hunter2\n", FILE)
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"port": "hunter2"})
    [problem] = document.problems(caught.value, ("x",))
    assert str(problem).startswith("fleet.yaml:2: x.port: Input should be a valid integer")
    assert "hunter2" not in str(problem)
