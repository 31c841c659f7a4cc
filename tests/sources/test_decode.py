"""Decoding of query answers, against a plain parse."""

import json
import math
import struct
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import SourceMalformedError, SourceRejectedError
from aggregator.sources.columns import find_columns
from aggregator.sources.decode import Decoded, decode
from aggregator.sources.failures import Kind

HOSTILE = [
    'x","value":[1,"2"]},{"metric":{"a":"b"',
    '"value":[1,"2"]',
    '"values":[[1,"2"],[3,"4"]]',
    ']]}]},"warnings":["no"]',
    '"]]}]',
    '"]}]',
    '"result":[',
    "[[[[",
    "]]]]",
    "\\",
    '\\"',
    '\\"]',
    "[1,",
    "{},",
    "\u2028é漢🙂\x00\x1f",
    "",
]

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
label_sets = st.dictionaries(texts, texts, max_size=4)
numbers = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:f}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "0", "-0", "1e+09", "5e-324", "0.1"]),
)
times = st.one_of(
    st.integers(1_700_000_000_000, 1_900_000_000_000),
    st.integers(1_700_000_000, 1_900_000_000).map(lambda seconds: seconds * 1000),
    st.integers(0, 10_000),
)
samples = st.tuples(times, numbers)
vectors = st.lists(st.tuples(label_sets, samples), max_size=8)
matrices = st.lists(st.tuples(label_sets, st.lists(samples, min_size=1, max_size=4)), max_size=6)


def seconds(time_ms: int) -> str:
    """Return the time as Prometheus writes it."""
    whole, rest = divmod(time_ms, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


def pair(sample: tuple[int, str]) -> str:
    """Return a sample as Prometheus writes it."""
    return f'[{seconds(sample[0])},"{sample[1]}"]'


def metric(labels: dict[str, str], *, ascii_only: bool = False) -> str:
    """Return a label set as JSON, with or without escapes beyond ASCII."""
    return json.dumps(labels, separators=(",", ":"), ensure_ascii=ascii_only)


def body(kind: str, series: Sequence[str], tail: str = "") -> bytes:
    """Return an answer of *kind* as Prometheus lays it out."""
    head = f'{{"status":"success","data":{{"resultType":"{kind}","result":['
    return f"{head}{','.join(series)}]}}{tail}}}".encode()


def vector(rows: Sequence[tuple[dict[str, str], tuple[int, str]]], tail: str = "") -> bytes:
    """Return an instant vector."""
    return body("vector", [f'{{"metric":{metric(m)},"value":{pair(s)}}}' for m, s in rows], tail)


def matrix(rows: Sequence[tuple[dict[str, str], Sequence[tuple[int, str]]]]) -> bytes:
    """Return a matrix."""
    return body(
        "matrix",
        [f'{{"metric":{metric(m)},"values":[{",".join(map(pair, s))}]}}' for m, s in rows],
    )


def bits(value: float) -> bytes:
    """Return what two equal values have in common, NaN included."""
    return b"NaN" if math.isnan(value) else struct.pack("<d", value)


def reference(answer: bytes) -> list[tuple[dict[str, str], list[tuple[int, bytes]]]]:
    """Decode with orjson and float(), one sample at a time."""
    rows = []
    for one in orjson.loads(answer)["data"]["result"]:
        found = one["values"] if "values" in one else [one["value"]]
        rows.append((one["metric"], [(round(at * 1000), bits(float(text))) for at, text in found]))
    return rows


def rows_of(decoded: Decoded, metrics: Sequence[bytes]):
    """Return a decoded answer in the shape of `reference`."""
    assert decoded.offsets[-1] == decoded.times.size == decoded.values.size
    assert len(metrics) == decoded.offsets.size - 1
    return [
        (
            orjson.loads(labels),
            [
                (int(at), bits(float(value)))
                for at, value in zip(
                    decoded.times[begin:end], decoded.values[begin:end], strict=True
                )
            ],
        )
        for labels, begin, end in zip(
            metrics, decoded.offsets[:-1], decoded.offsets[1:], strict=True
        )
    ]


def check(answer: bytes) -> Decoded:
    """Decode *answer* unknown, then known, and hold both against the reference."""
    first = decode(answer)
    assert first.metrics is not None
    assert rows_of(first, first.metrics) == reference(answer)
    again = decode(answer, first.digest)
    assert again.metrics is None
    assert rows_of(again, first.metrics) == reference(answer)
    return first


@given(vectors)
@settings(max_examples=150, deadline=None)
def test_vectors_decode_to_what_a_plain_parse_gives(rows):
    """Any vector, with hostile labels, decodes to the same samples on both paths."""
    answer = vector(rows)
    check(answer)
    assert find_columns(answer) is not None


@given(matrices)
@settings(max_examples=150, deadline=None)
def test_matrices_decode_to_what_a_plain_parse_gives(rows):
    """Any matrix, with hostile labels and mixed sample counts, decodes the same on both paths."""
    answer = matrix(rows)
    check(answer)
    assert find_columns(answer) is not None


@given(matrices, st.randoms())
@settings(max_examples=100, deadline=None)
def test_other_samples_of_the_same_series_hit_the_digest(rows, random):
    """The digest stays when times, values and sample counts change but the label sets do not."""
    first = check(matrix(rows))
    changed = [
        (labels, [(1_795_328_222_865 + n, str(n)) for n in range(random.randint(1, 3))])
        for labels, _ in rows
    ]
    again = decode(matrix(changed), first.digest)
    assert again.metrics is None
    assert rows_of(again, first.metrics) == reference(matrix(changed))


@given(vectors, vectors)
@settings(max_examples=100, deadline=None)
def test_the_digest_tells_label_sets_apart(one, other):
    """Two answers have one digest exactly if they have the same label sets in the same order."""
    same = [labels for labels, _ in one] == [labels for labels, _ in other]
    assert (decode(vector(one)).digest == decode(vector(other)).digest) == same


@given(st.lists(numbers, min_size=1, max_size=50))
@settings(deadline=None)
def test_values_keep_every_bit(values):
    """Values equal Python's float() of the same text, bit for bit."""
    answer = matrix([({"a": "b"}, [(1000 * n, text) for n, text in enumerate(values)])])
    known = decode(answer).digest
    expected = [bits(float(text)) for text in values]
    assert [bits(float(value)) for value in decode(answer, known).values] == expected


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=50))
@settings(deadline=None)
def test_times_are_exact_milliseconds(found):
    """Seconds with a fraction become whole milliseconds by rounding, never by truncation."""
    answer = matrix([({}, [(at, "1") for at in found])])
    known = decode(answer).digest
    assert decode(answer, known).times.tolist() == found


@pytest.mark.parametrize("fraction", ["1795329647.1", "1795329647.12", "1795329647.123"])
def test_short_fractions_decode(fraction):
    """VictoriaMetrics leaves trailing zeros of a fraction out."""
    answer = body("matrix", [f'{{"metric":{{}},"values":[[{fraction},"1"],[1795329648,"2"]]}}'])
    assert find_columns(answer) is not None
    assert check(answer).times.tolist() == [round(float(fraction) * 1000), 1795329648000]


def test_long_answers_are_parsed_in_parts():
    """An answer of many parts, hostile labels at the cuts included, is parsed whole."""
    rows = [
        ({"i": str(i), "x": '},{"metric":{"a":"b"},"value":[1,"2"]}' * (i % 5)}, (1000 * i, "1"))
        for i in range(9000)
    ]
    answer = vector(rows)
    assert len(answer) > 10**6
    decoded = check(answer)
    assert decoded.offsets.size == 9001
    spaced = answer.replace(b'"result":[', b'"result": [')
    assert find_columns(spaced) is None
    assert rows_of(decode(spaced), decode(spaced).metrics) == reference(answer)


def test_an_empty_answer_is_no_failure():
    """A vector or matrix without series has none, and no warning."""
    for answer in (vector([]), matrix([]), body("vector", []).replace(b"[]", b"null")):
        decoded = decode(answer)
        assert decoded.metrics == ()
        assert decoded.offsets.tolist() == [0]
        assert decode(vector([]), decoded.digest).offsets.tolist() == [0]


def test_a_series_that_lost_its_samples_does_not_pass_for_another():
    """An empty list of samples changes the digest, though all the labels are as before."""
    first = decode(matrix([({"a": "1"}, [(1, "1")]), ({"a": "2"}, [(1, "2")])]))
    emptied = matrix([({"a": "1"}, []), ({"a": "2"}, [(1, "2")])])
    decoded = decode(emptied, first.digest)
    assert rows_of(decoded, decoded.metrics) == reference(emptied)
    both = matrix([({"a": "1"}, []), ({"a": "2"}, [])])
    assert decode(both, first.digest).metrics is not None


def test_duplicate_label_sets_are_reported_in_order():
    """The same label set twice is two series, for the caller to settle."""
    decoded = check(vector([({"a": "1"}, (1000, "1")), ({"a": "1"}, (1000, "2"))]))
    assert decoded.metrics == (b'{"a":"1"}', b'{"a":"1"}')
    assert decoded.values.tolist() == [1.0, 2.0]


def test_a_scalar_is_a_series_without_labels():
    """A scalar answer becomes one series with no labels."""
    answer = b'{"status":"success","data":{"resultType":"scalar","result":[1795328222.5,"1504"]}}'
    decoded = decode(answer)
    assert decoded.metrics == (b"{}",)
    assert (decoded.times.tolist(), decoded.values.tolist()) == ([1795328222500], [1504.0])
    assert decode(answer, decoded.digest).metrics is None


def test_warnings_and_infos_are_kept_on_both_paths():
    """Warnings of an answer arrive cleaned, whether it was parsed or recognised."""
    tail = ',"warnings":["store \\u001b[1mx\\"]}]\\u0000 down"],"infos":["[1,\\"2\\"]"]'
    first = decode(vector([({"a": "b"}, (1000, "1"))], tail))
    plain = decode(vector([({"a": "b"}, (1000, "2"))]), first.digest)
    again = decode(vector([({"a": "b"}, (1000, "3"))], tail), first.digest)
    assert first.warnings == again.warnings == ('store [1mx"]}] down',)
    assert first.infos == again.infos == ('[1,"2"]',)
    assert (plain.metrics, plain.warnings) == (None, ())
    assert again.metrics is None


def test_statistics_after_the_result_do_not_change_the_digest():
    """VictoriaMetrics's changing statistics cost no full parse; its partial answers are told."""
    rows = [({"a": "b"}, (1000, "1"))]
    tail = ',"stats":{"seriesFetched":"%d","executionTimeMsec":%d}'
    first = decode(vector(rows, tail % (1, 2)))
    assert decode(vector(rows, tail % (9, 17)), first.digest).metrics is None
    partial = decode(vector(rows, ',"isPartial":true'), first.digest)
    assert partial.metrics is None
    assert "partial" in partial.warnings[0]


def test_native_histograms_are_left_out_with_a_warning():
    """A histogram has no value; series that also have plain samples keep those."""
    histogram = '[1,{"count":"3","sum":"2","buckets":[[0,"-5","-4","3"]]}]'
    answer = body(
        "vector",
        [
            f'{{"metric":{{"a":"1"}},"histogram":{histogram}}}',
            '{"metric":{"a":"2"},"value":[1,"7"]}',
        ],
    )
    decoded = decode(answer)
    assert (decoded.metrics, decoded.values.tolist()) == ((b'{"a":"2"}',), [7.0])
    assert decoded.warnings == ("native histograms of 1 series are left out: not supported",)
    assert decode(answer, decoded.digest).warnings == decoded.warnings
    ranged = body(
        "matrix",
        [f'{{"metric":{{"a":"1"}},"values":[[1,"5"]],"histograms":[{histogram}]}}'],
    )
    assert decode(ranged).values.tolist() == [5.0]
    assert decode(ranged).warnings


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (vector([({"a": "b"}, (1, "1"))])[:-5], Kind.TRUNCATED),
        (vector([({"a": "b"}, (1, "1"))] * 9000)[:-400], Kind.TRUNCATED),
        (b"{}", Kind.WRONG_JSON),
        (b"[]", Kind.WRONG_JSON),
        (b"nope", Kind.WRONG_JSON),
        (b'{"status":"success"}', Kind.WRONG_JSON),
        (b'{"status":"success","data":{"resultType":"streams","result":[]}}', Kind.WRONG_JSON),
        (b'{"status":"success","data":{"resultType":"string","result":[1,"a"]}}', Kind.WRONG_JSON),
        (body("vector", ['{"metric":{"a":1},"value":[1,"1"]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":["a"],"value":[1,"1"]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":{},"value":[1,"one"]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":{},"value":[1,2]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":{},"value":[1e300,"1"]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":{}}']), Kind.WRONG_JSON),
        (body("vector", ['{"value":[1,"1"]}']), Kind.WRONG_JSON),
        (body("vector", ['{"metric":{"a":"\xff"},"value":[1,"1"]}']).replace(
            b"\xc3\xbf", b"\xff"), Kind.WRONG_JSON),
        (b"[" * 100_000, Kind.WRONG_JSON),
        (b'{"status":' + b"[" * 100_000, Kind.WRONG_JSON),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_malformed(answer, kind):
    """Anything else ends in a classified error that names the cluster."""
    with pytest.raises(SourceMalformedError, match="cluster eu: ") as caught:
        decode(answer, cluster="eu")
    assert caught.value.kind == kind


def test_an_error_in_a_successful_answer_is_rejected():
    """An envelope that says error is an error, whatever the HTTP status was."""
    answer = b'{"status":"error","errorType":"execution","error":"too\\u0007 many\\nsamples"}'
    with pytest.raises(SourceRejectedError, match="too many samples"):
        decode(answer, cluster="eu")


@given(matrices, st.integers(0, 10**6), st.binary(min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_damaged_answers_never_pass_for_the_known_one(rows, at, damage):
    """A body overwritten somewhere is decoded as a plain parse would, or is an error."""
    good = matrix(rows)
    known = decode(good).digest
    place = at % len(good)
    bad = good[:place] + damage + good[place + len(damage) :]
    try:
        decoded = decode(bad, known)
    except (SourceMalformedError, SourceRejectedError):
        return
    metrics = decoded.metrics if decoded.metrics is not None else decode(good).metrics
    try:
        expected = reference(bad)
    except (ValueError, KeyError, TypeError):
        return  # what no server writes: a leading zero in a time, a control character
    assert rows_of(decoded, metrics) == expected
