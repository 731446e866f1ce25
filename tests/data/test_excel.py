"""Excel workbooks: read as a CSV of the same cells; what a spreadsheet hides is refused; a hostile one is bounded."""

import contextlib
import datetime
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset
from polytag.data.formats import excel
from polytag.errors import AnnotationError, DataError, MissingExtraError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"

Write = Callable[..., Path]


@pytest.fixture
def workbook(tmp_path, add_images) -> Write:
    """Write sheets, each a list of rows, beside three images."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra excel, is not installed")
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")

    def write_book(*, merge: str = "", **sheets: list[tuple[object, ...]]) -> Path:
        book = openpyxl.Workbook()
        book.remove(book.active)
        for name, rows in sheets.items():
            sheet = book.create_sheet(name)
            for row in rows:
                sheet.append(row)
            if merge:
                sheet.merge_cells(merge)
        book.save(tmp_path / "labels.xlsx")
        return tmp_path / "labels.xlsx"

    return write_book


def refused(data: Path) -> str:
    with pytest.raises(AnnotationError) as error:
        load_dataset(data)
    return str(error.value)


def test_a_column_of_lists(workbook, tmp_path, labels):
    path = workbook(Sheet1=[("filename", "labels"), ("a.jpg", "cat, dog"), (), ("b.jpg", None), (None, None), ("c.jpg", "dog")])
    (tmp_path / "~$labels.xlsx").write_bytes(b"Excel has it open")
    expected = {("", "a.jpg"): "cat dog", ("", "b.jpg"): "", ("", "c.jpg"): "dog"}
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == expected == labels(load_dataset(path))
    assert dataset.interpretation.format == "excel"
    assert dataset.interpretation.notes == ()


def test_class_columns_of_every_kind_of_cell(workbook, tmp_path, labels):
    day = datetime.date(2026, 11, 29)
    workbook(S=[("file", "cat", "dog", "day"), ("a.jpg", 1, True, day), ("b.jpg", 0.0, None, day), ("c.jpg", "yes", -1, day)])
    dataset = load_dataset(tmp_path, options=ReadOptions(class_columns=("cat", "dog"), group_column="day"))
    assert labels(dataset) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "?dog", ("", "c.jpg"): "cat ?dog"}
    assert dataset.group_N == ("2026-11-29T00:00:00",) * 3


def test_a_row_for_each_label(workbook, tmp_path, labels):
    workbook(S=[("filename", "label"), ("a.jpg", "cat"), ("a.jpg", "dog"), ("b.jpg", 7)])
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "7"}


def test_sheets_named_after_splits_are_splits_and_others_are_told(workbook, tmp_path, labels):
    workbook(train=[("file", "cat"), ("a.jpg", 1)], Validation=[("file", "cat"), ("b.jpg", 0)])
    assert labels(load_dataset(tmp_path)) == {("train", "a.jpg"): "cat", ("val", "b.jpg"): ""}
    workbook(labels=[("file", "cat"), ("a.jpg", 1)], legend=[("colour",)])
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 1
    assert dataset.interpretation.notes[0] == "only the first sheet of labels.xlsx is read, not 'legend'"
    path = workbook(train=[("file", "cat"), ("a.jpg", 1)], val=[("file", "dog"), ("b.jpg", 0)])
    assert refused(tmp_path) == (
        f"two sheets disagree about their columns\n  where: {path}: sheet 'val', row 1\n  got: file, dog\n  expected: file, cat"
    )


def test_what_a_spreadsheet_hides_is_refused(workbook, tmp_path):
    path = workbook(S=[("file", "cat"), ("a.jpg", 1), ("b.jpg", None)], merge="B2:B3")
    assert refused(tmp_path) == (
        f"merged cells\n  where: {path}: sheet1.xml\n  got: B2:B3\n"
        "  expected: a value in every cell, because only the first of merged cells has one\n"
        "  next: unmerge the cells and fill them in, or save the sheet as CSV"
    )
    workbook(S=[("file", "cat"), ("a.jpg", "=1+0")])
    assert refused(tmp_path) == (
        f"a formula without a stored value\n  where: {path}: sheet 'S', row 2\n  got: =1+0\n"
        "  expected: a value: formulas are not computed\n"
        "  next: open the workbook in a spreadsheet and save it, or save the sheet as CSV"
    )
    workbook(S=[("file", "cat"), ("a.jpg", 1, "?")])
    assert refused(tmp_path) == (
        f"a row does not fit the header\n  where: {path}: sheet 'S', row 2\n  got: 3 cells\n  expected: 2, as in the first row"
    )
    workbook(S=[("file", "cat", "cat"), ("a.jpg", 1, 1)])
    assert refused(tmp_path).startswith("a column is given twice\n")


def test_what_is_no_workbook_is_refused(workbook, tmp_path):
    path = workbook(S=[("file", "cat"), ("a.jpg", 1)])
    for content, got in (
        (b"file,cat\n", "File is not a zip file"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "an old .xls workbook, or one with a password"),
    ):
        path.write_bytes(content)
        assert refused(path) == (
            f"malformed Excel workbook\n  where: {path}\n  got: {got}\n  expected: an .xlsx file\n"
            "  next: save it again as .xlsx without a password, or as CSV in UTF-8"
        )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    assert refused(path).startswith(f"malformed Excel workbook\n  where: {path}\n  got: KeyError: ")


def replaced(path: Path, name: str, old: bytes, new: bytes) -> None:
    """Write the archive again, with one member changed."""
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as before, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after:
        for member in before.namelist():
            data = before.read(member)
            after.writestr(member, data.replace(old, new) if member == name else data)


def test_a_hostile_workbook_is_bounded(workbook, monkeypatch):
    path = workbook(S=[("file", "cat"), ("a.jpg", 1)])
    replaced(path, "xl/worksheets/sheet1.xml", b'<row r="2"', b'<row r="1000000000"')
    monkeypatch.setattr(excel, "MAX_ROWS", 1000)
    assert refused(path) == (
        f"the workbook is too large\n  where: {path}: sheet 'S', row 1001\n  got: row 1,001\n"
        f"  expected: at most 1,000 rows and 50,000,000 cells\n  next: save the sheet as CSV, which has no such limit"
    )
    path = workbook(S=[("file", "cat"), ("a.jpg", 1)])
    replaced(path, "xl/worksheets/sheet1.xml", b'ref="A1:B2"', b'ref="A1:XFD1048576"')
    assert len(load_dataset(path)) == 1
    monkeypatch.setattr(excel, "MAX_UNPACKED_BYTES", 2**20)
    replaced(path, "xl/worksheets/sheet1.xml", b"</worksheet>", b" " * 2**20 + b"</worksheet>")
    assert path.stat().st_size < 2**14
    assert refused(path).startswith(f"the workbook is too large\n  where: {path}\n  got: 1,0")


def test_mutations_end_in_data_or_in_an_error(workbook):
    path = workbook(S=[("filename", "labels"), ("a.jpg", "cat, dog"), ("b.jpg", "dog")])
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    for number in range(40):
        place = (number * 7919) % len(whole)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << number % 8)]) + whole[place + 1 :])
        _reads_or_refuses(path)
        path.write_bytes(whole)
        place = (number * 7919) % len(sheet)
        replaced(path, "xl/worksheets/sheet1.xml", sheet[place : place + 9], b"x" * (number % 3))
        _reads_or_refuses(path)


def _reads_or_refuses(path: Path) -> None:
    with contextlib.suppress(DataError):
        assert len(load_dataset(path))


def test_without_openpyxl_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError) as error:
        load_dataset(tmp_path)
    assert str(error.value) == "this needs the extra 'excel', which is not installed\n  next: pip install 'polytag[excel]'"


def test_the_workbook_of_the_community(labels):
    pytest.importorskip("openpyxl", reason="openpyxl, of the extra excel, is not installed")
    if not COMMUNITY.is_dir():
        pytest.skip("no ../shared/cases/community beside this checkout")
    dataset = load_dataset(COMMUNITY / "excel")
    assert len(dataset) == 100
    assert labels(dataset)["", "2007_002268.jpg"] == "cat dog sofa"
