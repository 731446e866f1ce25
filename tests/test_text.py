"""Numbers, counts and tables as text."""

import math
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.text import (
    aligned,
    cell,
    control_character,
    counted,
    interval_text,
    is_blank,
    json_number,
    markdown,
    number_text,
    percent,
    printable,
    printable_lines,
    storable,
    text_of_cell,
    whole_text,
)

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


# Text of a stranger

ACTING = ("\x00", "\x07", "\x0b", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800", "\ufffe")


@pytest.mark.parametrize("letter", ACTING)
def test_what_acts_instead_of_being_shown_is_a_control_character(letter: str):
    assert control_character(f"a{letter}b{letter}") == f"U+{ord(letter):04X}"
    assert printable(f"a{letter}b") == printable_lines(f"a{letter}b") == "a\ufffdb"


def test_line_breaks_and_tabs_stay_in_lines_alone():
    assert (printable("a\n\tb"), printable_lines("a\n\tb")) == ("a\ufffd\ufffdb", "a\n\tb")


@given(st.text())
def test_printed_text_has_no_control_character_and_ordinary_text_stays(text: str):
    shown = printable(text)
    assert not control_character(shown)
    assert len(shown) == len(text)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old.isprintable())


@pytest.mark.parametrize(
    "name", ["猫", "e\u0301t\u00e9", "a\u00a0b", "👩\u200d🚀", "نیم\u200cفاصله", "\u200fכלב\u200e", "قطة\u061c", "C++\u200f"]
)
def test_names_of_all_languages_have_no_control_character(name: str):
    assert control_character(name) == ""
    assert not is_blank(name)


def test_a_direction_mark_is_kept_and_takes_no_width():
    """It is invisible, and turns no text round as the overrides do: the neighbouring signs alone take its direction."""
    assert printable("\u200fכלב\u200e") == "\u200fכלב\u200e"
    assert aligned([["כלב\u200f", "0.5"], ["cats", "1.0"]]) == ["כלב\u200f   0.5", "cats  1.0"]


@pytest.mark.parametrize("text", ["", "  ", "\u200b", "\u200f\u200e", "\u200b\u2060 \ufeff", "\u00ad"])
def test_what_cannot_be_seen_is_blank(text: str):
    assert is_blank(text)


@given(st.text(alphabet="'=+-@\t\rab,", max_size=8) | st.text())
def test_a_cell_is_no_formula_and_gives_its_text_back(text: str):
    assert text_of_cell(cell(text)) == text
    assert not cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_cell_changes_only_what_a_spreadsheet_would_run():
    assert (cell("=1+1"), cell("'=1"), cell("'tis"), cell("a=b")) == ("'=1+1", "''=1", "'tis", "a=b")


@pytest.mark.parametrize(
    "name",
    ["# Heading", "[here](http://evil.example)", "<img src=http://evil.example/t.gif>", "a | b", "`code`", "**bold**",
     "http://evil.example", "www.evil.example", "&lt;b&gt;", "![x](y)", "a\n\n# b", "~~~", "1. x"],
)  # fmt: skip
def test_markdown_shows_a_name_and_does_nothing_else(name: str):
    """Every sign that begins something in CommonMark or GitHub's tables and links has a backslash before it."""
    written = markdown(name)
    assert "\n" not in written
    assert not re.search(r"(?<!\\)[\[\]<>()#|`*_!&:.~]", written)
    assert re.sub(r"\\(.)", r"\1", written) == printable(name)


def test_bytes_of_a_name_that_are_no_utf8_are_written_as_such():
    assert storable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert (storable("café.png"), storable("a\ud800")) == ("café.png", "a\\ud800")
