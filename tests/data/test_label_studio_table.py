"""Label Studio's CSV export: choices as JSON or words, several annotators, uploads, and images that are not there."""

from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset
from polytag.errors import AnnotationError

HEADER = "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"


def row(number: int, image: str, choice: str = "", *, task: int | None = None, annotator: int = 1) -> str:
    quoted = '"' + choice.replace('"', '""') + '"' if choice else ""
    time = "2026-01-01T00:00:00Z"
    return f"{number},{annotator},{quoted},{time},{task or number},{image},3.2,{time}\n"


@pytest.fixture
def export(tmp_path, write, add_images):
    add_images(tmp_path, "upload/0123abcd-a.jpg", "upload/0123abce-b.jpg", "upload/c.jpg")
    return lambda text: write(tmp_path / "project-1-at-2026-01-01.csv", text)


def refused(data: Path, **options: object) -> str:
    with pytest.raises(AnnotationError) as error:
        load_dataset(data, options=ReadOptions(**options))  # pyright: ignore[reportArgumentType]
    return str(error.value)


def test_choices_of_uploads_and_of_other_images(export, tmp_path, labels):
    path = export(
        HEADER
        + row(1, "/data/upload/1/0123abcd-a.jpg", '{"choices": ["cat", "traffic, light"]}')
        + row(2, "0123abce-b.jpg", "dog")
        + row(3, "/data/upload/1/0123abcf-c.jpg")
    )
    expected = {
        ("", "upload/0123abcd-a.jpg"): "cat traffic, light", ("", "upload/0123abce-b.jpg"): "dog", ("", "upload/c.jpg"): "",
    }  # fmt: skip
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == expected == labels(load_dataset(path))
    assert labels(load_dataset(tmp_path, options=ReadOptions(labels_column="choice"))) == expected
    assert dict(dataset.interpretation.found)["tool"] == "Label Studio's CSV"


def test_a_label_that_only_some_annotators_gave_is_unknown(export, tmp_path, labels):
    both = '{"choices": ["cat", "dog"]}'
    export(
        HEADER
        + row(1, "0123abcd-a.jpg", both, task=7)
        + row(2, "0123abce-b.jpg", "cat", task=8)
        + row(3, "0123abcd-a.jpg", "cat", task=7, annotator=2)
        + row(4, "0123abce-b.jpg", task=8, annotator=2)
    )
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "upload/0123abcd-a.jpg"): "cat ?dog", ("", "upload/0123abce-b.jpg"): "?cat"}
    assert any("only some annotators" in note for note in dataset.interpretation.notes)


def test_a_task_that_nobody_has_annotated_is_left_out(export, tmp_path):
    export(HEADER + row(1, "0123abcd-a.jpg", "cat") + row(2, "0123abce-b.jpg").replace("2,1,", ",,", 1))
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 1
    assert any(note.startswith("1 image left out, because nobody has annotated") for note in dataset.interpretation.notes)


def test_regions_ratings_and_titles(export, tmp_path, labels):
    regions = (
        '[{""x"": 1, ""y"": 2, ""rectanglelabels"": [""car""]}, {""x"": 3, ""y"": 2, ""rectanglelabels"": [""car"", ""bus""]}]'
    )
    export(
        "annotation_id,annotator,id,image,label,lead_time,rating,title\n"
        f'1,1,1,0123abcd-a.jpg,"{regions}",3.2,5,A photo\n2,1,2,0123abce-b.jpg,,3.2,4,Another\n'
    )
    assert labels(load_dataset(tmp_path)) == {("", "upload/0123abcd-a.jpg"): "bus car", ("", "upload/0123abce-b.jpg"): ""}


def test_two_columns_of_answers_are_asked_about(export, tmp_path, labels):
    path = export(
        "animal,annotation_id,annotator,id,image,lead_time,weather\n"
        "cat,1,1,1,0123abcd-a.jpg,3.2,sunny\n"
        '"{""choices"": [""cat"", ""dog""]}",2,1,2,0123abce-b.jpg,3.2,"{""choices"": [""rain""]}"\n'
    )
    assert refused(tmp_path) == (
        f"labels in several fields\n  where: {path}\n  got: 'animal' (choices), 'weather' (choices)\n  expected: one of them\n"
        "  next: choose one with the option labels_column, such as --labels-column 'animal'"
    )
    dataset = load_dataset(tmp_path, options=ReadOptions(labels_column="weather"))
    assert labels(dataset) == {("", "upload/0123abcd-a.jpg"): "sunny", ("", "upload/0123abce-b.jpg"): "rain"}


def test_an_export_without_its_images(export, tmp_path):
    path = export(HEADER + row(1, "/data/upload/1/0123abcd-gone.jpg", "cat"))
    error = refused(tmp_path)
    assert error.startswith(f"a listed image does not exist\n  where: {path}:2\n")
    assert error.endswith("put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list")


def test_what_is_refused(export, tmp_path):
    path = export(HEADER + row(1, "0123abcd-a.jpg", '{"choices": ["cat"}'))
    assert refused(tmp_path).startswith(f"malformed JSON\n  where: {path}:2")
    export(HEADER.replace("image", "text") + row(1, "a text", "cat"))
    assert refused(tmp_path).startswith(f"no column of images\n  where: {path}:1\n")
    export(HEADER.replace("choice,", "") + row(1, "0123abcd-a.jpg").replace("1,1,,", "1,1,"))
    assert refused(tmp_path) == (
        f"no column of answers\n  where: {path}:1\n"
        "  got: annotation_id, annotator, created_at, id, image, lead_time, updated_at\n"
        "  expected: a column such as 'choice' beside those of Label Studio itself\n"
        "  next: export the project as JSON, or name the column with the option labels_column (--labels-column)"
    )
