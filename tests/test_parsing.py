"""JSON and YAML within bounds: plain values, or one Malformed, whatever the text, in bounded time."""

import contextlib
import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag import parsing
from polytag.parsing import MAX_YAML_BYTES, Malformed, parse_json, parse_lenient_json, parse_yaml, small_text

SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"]), max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("abcdé- :#", max_size=6), inner, max_size=5),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_what_json_holds_is_read(document: object):
    text = json.dumps(document)
    assert parse_json(text) == parse_lenient_json(text) == document


@given(DOCUMENTS)
def test_what_yaml_holds_is_read_as_pyyaml_reads_it(document: object):
    text = yaml.safe_dump(document, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text) == document


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "brackets nested too deep"),
        ("9" * 5000, "a number of too many digits"),
        ("[NaN]", "NaN, which is not JSON"),
        ("-Infinity", "-Infinity, which is not JSON"),
        ("[1e999]", "the number 1e999, which is too large"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        ("[" + "[]," * 1_000_000 + "[]]", "more than 1,000,000 brackets"),
        ("[1 2]", "Expecting ',' delimiter, at column 4"),
    ],
)
def test_json_that_is_refused(text: str, problem: str):
    with pytest.raises(Malformed) as error:
        parse_json(text)
    assert error.value.problem == problem


def test_other_programs_may_write_nan_and_the_last_of_equal_keys_counts():
    assert parse_lenient_json('{"a": 1, "a": 2}') == {"a": 2}
    assert str(parse_lenient_json("[NaN, -Infinity]")) == "[nan, -inf]"


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb: " + "9" * 5000, "a number of too many digits", 2),
        ("a:\n  b: 1\n  b: 2", "the key 'b' is given twice", 3),
        ("[" * 20_000, "brackets or lists nested too deep", 1),
        ("- " * 1000, "brackets or lists nested too deep", 1),
        ("[" * 17 + "]" * 17, "brackets or lists nested too deep", 1),
        ("a: &a [*a]", "an alias inside its own anchor", 1),
        (
            "a: !!python/name:os.system x",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
            1,
        ),
        ("a: !!timestamp 2020-99-99", "could not determine a constructor for the tag 'tag:yaml.org,2002:timestamp'", 1),
        ("<<: {a: 1}", "could not determine a constructor for the tag 'tag:yaml.org,2002:merge'", 1),
        ("? [a]\n: 1", "a list or mapping as a key", 1),
        ("a: !!int x", "'x' with the tag 'int'", 1),
        ("!!map [a]", "a value with the tag of a mapping", 1),
        ("a" * 500_001, "more than 500,000 characters", 0),
    ],
)
def test_yaml_that_is_refused(text: str, problem: str, line: int):
    with pytest.raises(Malformed) as error:
        parse_yaml(text)
    assert (error.value.problem, error.value.line) == (problem, line)


def test_dates_are_text_as_written():
    assert parse_yaml("[2020-01-01, 2020-99-99, =, 1e3]") == ["2020-01-01", "2020-99-99", "=", "1e3"]


def test_aliases_are_read_and_bombs_of_aliases_are_not():
    assert parse_yaml("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    with pytest.raises(Malformed, match="more than 50,000 values"):
        parse_yaml(bomb)


DEEP = "- " + 14 * "[" + 480 * "a," + 14 * "]" + "\n"  # the slowest shape found: PyYAML looks at every open bracket for each token


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["[", "- ", "a,", "a: b\n", "- a\n", "&a ", "*a ", "!", "'", '"\\', "? a\n", "{a: ", "#", "\n", "%a\n", "- !!str a\n", DEEP],
)
def test_the_time_for_the_longest_text_is_bounded(piece: str):
    text = (piece * MAX_YAML_BYTES)[:MAX_YAML_BYTES]
    started = time.process_time()
    for parse in (parse_yaml, parse_json, parse_lenient_json):
        with contextlib.suppress(Malformed):
            parse(text)
    assert time.process_time() - started < 6  # 1.4 s at most where this was set, with another process on the core


def test_lists_mappings_and_tags_count_twice_as_they_take_twice_the_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parsing, "_MAX_NODES", 50)
    assert parse_yaml("[" + 48 * "1," + "]") == [1] * 48
    assert parse_yaml("[" + 24 * "[]," + "]") == [[]] * 24
    for piece in ("[],", "{},", "!!str a,"):
        with pytest.raises(Malformed, match="more than 50 values"):
            parse_yaml("[" + 26 * piece + "]")


@given(
    st.text()
    | st.binary().map(lambda content: content.decode("latin-1"))
    | st.text("[]{}:,-&*!|>'\"%@`#?\n 0123abcn.~<=", max_size=60)
)
@settings(max_examples=500)
def test_any_text_is_plain_values_or_one_error(text: str):
    for parse in (parse_yaml, parse_json, parse_lenient_json):
        try:
            value = parse(text)
        except Malformed:
            continue
        assert value is None or type(value) in (bool, int, float, str, list, dict)


def test_bytes_are_bounded_and_utf8():
    assert small_text("\ufeffé".encode()) == "é"
    with pytest.raises(Malformed, match="more than 3 bytes"):
        small_text(b"1234", max_bytes=3)
    with pytest.raises(Malformed) as error:
        small_text(b"a\n\xff")
    assert (error.value.problem, error.value.line) == ("bytes that are not UTF-8", 2)
