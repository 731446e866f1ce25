"""Numbers, counts and tables as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.text import aligned, counted, interval_text, json_number, number_text, percent, printable, whole_text

NAN = math.nan


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [(1, "classes", "1 class"), (0, "images", "0 images"), (1, "decisions", "1 decision"), (1234, "labels", "1,234 labels")],
)
def test_a_count_has_its_unit_in_the_singular_or_plural(number: int, unit: str, expected: str):
    assert counted(number, unit) == expected


def test_numbers_and_intervals_are_rounded_and_undefined_ones_are_a_dash_or_nothing():
    assert (number_text(0.12345), number_text(0.12345, digits=4), number_text(NAN)) == ("0.123", "0.1235", "–")
    assert (whole_text(1234.6), whole_text(0.4), whole_text(NAN)) == ("1,235", "0", "–")
    assert (interval_text(0.1, 0.25), interval_text(NAN, NAN)) == ("0.100 – 0.250", "")
    assert interval_text(0.1, 0.25, digits=2, dash="–") == "0.10–0.25"
    assert (percent(0.125), percent(1 / 3), percent(1)) == ("12.5%", "33.33%", "100%")


def test_json_has_null_in_place_of_nan():
    assert (json_number(0.5), json_number(NAN)) == (0.5, None)


def test_control_characters_are_replaced():
    assert printable("cat\x1b[31m") == "cat\ufffd[31m"


def test_a_table_aligns_the_first_column_left_and_the_others_right_by_cells_of_a_terminal():
    assert aligned([["class", "AP"], ["猫", "0.5"], ["e\u0301", "–"]]) == ["class   AP", "猫     0.5", "e\u0301        –"]


@given(
    st.lists(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=6), min_size=3, max_size=3), min_size=1)
)
def test_every_line_of_a_table_ends_where_its_columns_end(rows: list[list[str]]):
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row, line in zip(rows, aligned(rows), strict=True):
        assert line == f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip()
