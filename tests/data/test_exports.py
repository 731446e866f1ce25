"""Exports of annotation tools, as each tool writes them: what is read, what is left out and told, what is refused."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from polytag.data.formats.json_outline import outline
from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset, load_labels
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError, PolytagError, UsageError

NAMES = ("a.jpg", "b.jpg", "c.jpg")
REFERENCE = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text()


def message(call, *args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        call(*args, **named)
    return str(error.value)


def task(number, *choices, name=None, annotations=None, **others):
    result = [{"value": {"choices": list(choices)}, "id": "x", "from_name": "animal", "to_name": "image", "type": "choices"}]
    given = [{"id": number, "result": result if choices else [], "was_cancelled": False}] if annotations is None else annotations
    return {
        "id": number,
        "annotations": given,
        "data": {"image": name or f"/data/upload/1/0123abc{number}-{NAMES[number]}"},
        **others,
    }


def classified(*labels):
    return {"_cls": "Classifications", "classifications": [{"_cls": "Classification", "label": label} for label in labels]}


def lines(*values):
    return "\n".join(map(json.dumps, values)) + "\n"


# each: (name of the tool, file, its content, labels by id, notes)
READ = {
    "label-studio": (
        "project-1-at-2026-11-28.json",
        [task(0, "cat", "dog"), task(1), task(2, annotations=[], predictions=[{"result": []}])],
        {"a.jpg": "cat dog", "b.jpg": ""},
        [
            "1 image left out, because nobody has annotated them (or the annotation was cancelled)",
            "predictions in the file are not read: only what people annotated counts",
        ],
    ),
    "label-studio-min": (
        "result.json",
        [
            {"image": "/data/local-files/?d=x/a.jpg", "id": 1, "animal": {"choices": ["cat", "dog"]}, "annotator": 1},
            {"image": "/data/local-files/?d=x/b.jpg", "id": 2, "animal": "cat", "annotator": 1, "annotation_id": 2},
            {"image": "/data/local-files/?d=x/c.jpg", "id": 3, "annotator": 1, "annotation_id": 3},
        ],
        {"a.jpg": "cat dog", "b.jpg": "cat", "c.jpg": ""},
        [],
    ),
    "fiftyone-classification": (
        "labels.json",
        {"classes": None, "labels": {"a": ["cat", "dog"], "b": None, "c": ["dog"]}},
        {"a.jpg": "cat dog", "b.jpg": "", "c.jpg": "dog"},
        ["1 image without a label: all classes count as absent"],
    ),
    "fiftyone-single": (
        "labels.json",
        {"classes": ["dog", "cat"], "labels": {"a": "cat", "b": None, "c": 0}},
        {"a.jpg": "cat", "c.jpg": "dog"},
        ["1 image left out, because their label is null"],
    ),
    "fiftyone-detection": (
        "labels.json",
        {"classes": ["cat", "dog"], "labels": {"a": [{"label": "cat", "bounding_box": [0, 0, 1, 1]}], "b": []}},
        {"a.jpg": "cat", "b.jpg": ""},
        ["1 image without a label: all classes count as absent"],
    ),
    "fiftyone-dataset": (
        "samples.json",
        {
            "samples": [
                {"filepath": "a.jpg", "tags": ["train", "good"], "ground_truth": classified("cat", "dog"), "model": classified()},
                {"filepath": "b.jpg", "tags": ["validation"], "ground_truth": classified(), "model": classified("cow")},
                {"filepath": "c.jpg", "tags": [], "ground_truth": None, "model": classified("cow")},
            ]
        },
        {"train a.jpg": "cat dog", "val b.jpg": ""},
        [
            "fields 'model' are not read, because the labels are in 'ground_truth'",
            "1 image left out, because their field 'ground_truth' is empty",
        ],
    ),
    "datumaro": (
        "annotations/default.json",
        {
            "dm_format_version": "1.0",
            "categories": {"label": {"labels": [{"name": "dog", "parent": ""}, {"name": "cow", "parent": ""}, {"name": "cat"}]}},
            "items": [
                {"id": "a", "annotations": [{"type": "label", "label_id": 2}, {"type": "bbox", "label_id": 0}], "image": {}},
                {"id": "b", "annotations": [{"type": "caption", "caption": "x"}], "media": {"path": "b.jpg"}},
            ],
        },
        {"a.jpg": "dog cat", "b.jpg": ""},
        ["1 image without a label: all classes count as absent"],
    ),
    "mmpretrain": (
        "annotations/test.json",
        {
            "metainfo": {"classes": ["dog", "cat"]},
            "data_list": [{"img_path": "a.jpg", "gt_label": [0, 1]}, {"img_path": "b.jpg", "gt_label": []}, {"img_path": "c.jpg"}],
        },
        {"a.jpg": "dog cat", "b.jpg": ""},
        ["1 image left out, because they have no 'gt_label'"],
    ),
    "imaterialist": (
        "validation.json",
        {
            "images": [{"url": "http://x/a.jpg", "imageId": "a"}, {"url": "http://x/b.jpg", "imageId": "b"}, {"imageId": "c"}],
            "annotations": [{"labelId": ["10", "9"], "imageId": "a"}, {"labelId": [], "imageId": "b"}],
        },
        {"a.jpg": "9 10", "b.jpg": ""},
        ["1 image left out, because they have no annotation", "classes have the numbers of 'labelId' as names"],
    ),
    "via": (
        "via_export_json.json",
        {
            "a.jpg18": {"filename": "a.jpg", "regions": [], "file_attributes": {"caption": "x", "tags": {"cat": 1, "dog": 1}}},
            "b.jpg19": {"filename": "b.jpg", "size": 19, "regions": [], "file_attributes": {"tags": {}}},
            "c.jpg20": {"filename": "c.jpg", "size": 20, "regions": [], "file_attributes": {}},
        },
        {"a.jpg": "cat dog", "b.jpg": ""},
        ["1 image left out, because they have no attribute 'tags'"],
    ),
    "via-project": (
        "via_project.json",
        {
            "_via_settings": {},
            "_via_img_metadata": {
                "a.jpg18": {
                    "filename": "a.jpg",
                    "regions": [{"shape_attributes": {"name": "rect"}, "region_attributes": {"kind": "dog"}}],
                    "file_attributes": {"public_domain": "no"},
                },
                "b.jpg18": {"filename": "b.jpg", "regions": {}, "file_attributes": {}},
            },
            "_via_attributes": {"region": {"kind": {"type": "dropdown", "options": {"dog": "", "cat": ""}}}, "file": {}},
        },
        {"a.jpg": "dog", "b.jpg": ""},
        ["1 image without a label: all classes count as absent"],
    ),
    "via-csv": (
        "via_export_csv.csv",
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,1,"{}",2,0,"{""name"":""rect""}","{""kind"":""dog""}"\n'
        'a.jpg,1,"{}",2,1,"{""name"":""rect""}","{""kind"":""cat""}"\n'
        'b.jpg,1,"{}",0,0,"{}","{}"\n',
        {"a.jpg": "cat dog", "b.jpg": ""},
        ["1 image without a label: all classes count as absent"],
    ),
    "kohya": (
        "meta_cap.json",
        {"img/a.jpg": {"tags": "cat, dog", "caption": "a cat"}, "img/b.jpg": {"tags": ""}, "img/c.jpg": {"caption": "x"}},
        {"a.jpg": "cat dog", "b.jpg": ""},
        ["1 image left out, because they have no tags"],
    ),
    "createml": (
        "_annotations.createml.json",
        [
            {"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1}}, {"label": "dog"}]},
            {"image": "b.jpg", "annotations": []},
        ],
        {"a.jpg": "cat dog", "b.jpg": ""},
        [],
    ),
    "names": (
        "labels.json",
        {"a.jpg": ["cat", "dog"], "b.jpg": [], "c.jpg": None},
        {"a.jpg": "cat dog", "b.jpg": ""},
        ["1 image left out, because their label is null"],
    ),
    "sagemaker": (
        "output.manifest",
        lines(
            {"source-ref": "s3://b/a.jpg", "x": [2, 10], "x-metadata": {"class-map": {"10": "cat", "2": "dog"}}},
            {"source-ref": "s3://b/b.jpg", "x": [], "x-metadata": {"class-map": {}}},
            {"source-ref": "s3://b/c.jpg", "x-metadata": {"failure-reason": "timeout"}},
        ),
        {"a.jpg": "dog cat", "b.jpg": ""},
        ["1 image left out, because they have no label 'x', or labelling failed"],
    ),
    "sagemaker-boxes": (
        "output.manifest",
        lines({"source-ref": "s3://b/a.jpg", "x": {"annotations": [{"class_id": 0}]}, "x-metadata": {"class-map": {"0": "cat"}}}),
        {"a.jpg": "cat"},
        [],
    ),
    "vertex": (
        "import.jsonl",
        lines(
            {"imageGcsUri": "gs://b/a.jpg", "classificationAnnotations": [{"displayName": "cat"}, {"displayName": "dog"}],
             "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}},
            {"imageGcsUri": "gs://b/b.jpg", "classificationAnnotations": [],
             "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "validation"}},
            {"imageGcsUri": "gs://b/c.jpg"},
        ),
        {"train a.jpg": "cat dog", "val b.jpg": ""},
        ["1 image left out, because they have no 'classificationAnnotations'"],
    ),
    "azure": (
        "train.jsonl",
        lines(
            {"image_url": "azureml://subscriptions/x/paths/a.jpg", "label": ["cat", "dog"]},
            {"image_url": "azureml://subscriptions/x/paths/b.jpg", "label": []},
            {"image_url": "azureml://subscriptions/x/paths/c.jpg", "label": [{"label": "cat", "topX": 0.1}]},
        ),
        {"a.jpg": "cat dog", "b.jpg": "", "c.jpg": "cat"},
        [],
    ),
}  # fmt: skip


def put(folder: Path, name: str, content) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def told(dataset):
    """What is told besides that images were found by their names."""
    return [note for note in dataset.interpretation.notes if not note.startswith("images are found by")]


@pytest.mark.parametrize("tool", READ)
def test_an_export_is_read_from_its_folder_and_as_a_file(tmp_path, add_images, labels, tool):
    name, content, expected, notes = READ[tool]
    add_images(tmp_path, *NAMES)
    path = put(tmp_path, name, content)
    for data in (tmp_path, path):
        assert recognise(data) == "export"
        dataset = load_dataset(data)
        assert {f"{split} {id}".strip(): text for (split, id), text in labels(dataset).items()} == expected
        assert told(dataset) == notes
        assert dataset.interpretation.format == "export"


@pytest.mark.parametrize("tool", READ)
def test_labels_are_read_without_images(tmp_path, tool):
    """To evaluate scores of images that are elsewhere."""
    name, content, expected, _ = READ[tool]
    assert len(load_labels(put(tmp_path, name, content))) == len(expected)


def test_several_annotators_who_disagree_leave_a_label_unknown(tmp_path, add_images, labels):
    def by(*choices, **others):
        return {**task(0, *choices)["annotations"][0], **others}

    add_images(tmp_path, *NAMES)
    content = [
        task(0, annotations=[by("cat", "dog"), by("cat"), by("cow", was_cancelled=True)]),
        task(1, annotations=[by("dog"), by("cat", ground_truth=True)]),
    ]
    dataset = load_dataset(put(tmp_path, "x.json", content))
    assert list(labels(dataset).values()) == ["cat ?dog", "cat"]
    assert "labels that only some annotators of an image gave are unknown, in 1 image" in told(dataset)


def test_two_questions_in_one_project_are_asked_about(tmp_path, add_images, labels):
    """An answer to "is it sharp?" is no animal."""
    add_images(tmp_path, *NAMES)
    content = [task(0, "cat"), task(1, "dog")]
    content[0]["annotations"][0]["result"].append({"type": "choices", "from_name": "sharp", "value": {"choices": ["yes"]}})
    path = put(tmp_path, "x.json", content)
    assert message(load_dataset, path) == (
        f"labels in several fields\n  where: {path}\n  got: 'animal' (choices), 'sharp' (choices)\n  expected: one of them\n"
        "  next: choose one with the option labels_column, such as --labels-column 'animal'"
    )
    dataset = load_dataset(path, options=ReadOptions(labels_column="sharp"))
    assert list(labels(dataset).values()) == ["yes", ""]
    assert list(labels(load_dataset(path, options=ReadOptions(accept_doubts=True))).values()) == ["cat", "dog"]
    assert message(load_dataset, path, options=ReadOptions(labels_column="animals"), kind=UsageError) == (
        f"no field of labels has this name\n  where: {path}\n  got: 'animals' (did you mean 'animal'?)\n"
        "  expected: one of 'animal' (choices), 'sharp' (choices)"
    )


def test_boxes_taxonomies_and_other_regions_of_label_studio(tmp_path, add_images, labels):
    add_images(tmp_path, *NAMES)
    content = [task(0), task(1), task(2)]
    for each, (kind, value) in zip(
        content, [("rectanglelabels", ["cat"]), ("polygonlabels", ["dog"]), ("taxonomy", [["animal", "cow"]])], strict=True
    ):
        each["annotations"][0]["result"] = [{"type": kind, "from_name": "label", "value": {kind: value}}, {"type": "relation"}]
    assert list(labels(load_dataset(put(tmp_path, "x.json", content))).values()) == ["cat", "dog", "animal cow"]


def test_uploads_are_found_by_the_names_that_they_had_before(tmp_path, add_images, labels):
    """Label Studio puts eight digits before the name, writes "_" for a space and drops brackets."""
    add_images(tmp_path, "in/my photo (1).jpg", "in/0123abcd-x.jpg")
    content = [task(0, "cat", name="/data/upload/1/deadbeef-my_photo_1.jpg"), task(1, "dog", name="/data/upload/1/0123abcd-x.jpg")]
    put(tmp_path, "x.json", content)
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "in/my photo (1).jpg"): "cat", ("", "in/0123abcd-x.jpg"): "dog"}
    assert (
        "images are found by the names that they had before their upload, such as 'my photo (1).jpg'"
        in dataset.interpretation.notes
    )


def test_two_uploads_of_one_file_are_refused(tmp_path, add_images):
    add_images(tmp_path, "a.jpg")
    content = [task(0, "cat"), task(1, "dog", name="/data/upload/1/deadbeef-a.jpg")]
    path = put(tmp_path, "x.json", content)
    assert message(load_dataset, path) == (
        f"an image is listed twice\n  where: {path}: [1]\n  got: '/data/upload/1/deadbeef-a.jpg' is a.jpg, first in {path}: [0]\n"
        "  expected: every image once\n"
        "  next: join the labels of an image into one entry, or name the images so that each has a name of its own"
    )


@pytest.mark.parametrize(
    "reference",
    [
        "train/a b.jpg",
        "C:\\photos\\train\\a b.jpg",
        "/mnt/photos/train/a b.jpg",
        "https://example.org/photos/train/a%20b.jpg?token=1",
        "s3://bucket/train/a b.jpg",
        "azureml://subscriptions/1/datastores/x/paths/train/a b.jpg",
        "/data/local-files/?d=photos/train/a%20b.jpg",
        "file:///mnt/train/a%20b.jpg",
    ],
)
def test_the_address_of_an_image_elsewhere_leads_to_its_file(tmp_path, add_images, reference):
    """As much of its path as fits decides between files of one name."""
    add_images(tmp_path, "train/a b.jpg", "val/a b.jpg")
    dataset = load_dataset(put(tmp_path, "x.json", [{"image": reference, "labels": ["cat"]}]))
    assert dataset.ids == ("train/a b.jpg",)


def test_images_of_an_export_that_are_not_there(tmp_path):
    path = put(tmp_path, "x.json", [task(0, "cat")])
    text = message(load_dataset, path)
    assert text.startswith(f"a listed image does not exist\n  where: {path}: [0]\n  got: '/data/upload/1/a.jpg'\n")
    assert text.endswith("name its folder with the option image_dirs (--image-dir), or take it off the list")


def test_folders_of_images_are_splits_where_nothing_else_is(tmp_path, add_images, labels):
    add_images(tmp_path, "train/a.jpg", "val/b.jpg")
    put(tmp_path, "x.json", {"train/a.jpg": ["cat"], "val/b.jpg": ["dog"]})
    assert labels(load_dataset(tmp_path)) == {("train", "train/a.jpg"): "cat", ("val", "val/b.jpg"): "dog"}


def test_files_with_the_names_of_splits_are_one_data_set(tmp_path, add_images, labels):
    add_images(tmp_path, "train/a.jpg", "validation/b.jpg")
    for split, name, number in (("train", "a.jpg", 1), ("validation", "b.jpg", 0)):
        content = {"metainfo": {"classes": ["dog", "cat"]}, "data_list": [{"img_path": name, "gt_label": number}]}
        put(tmp_path, f"annotations/mini_{split}.json", content)
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "train/a.jpg"): "cat", ("val", "validation/b.jpg"): "dog"}
    assert dataset.label_set.names == ("dog", "cat")


def test_folders_with_the_word_of_a_split_are_looked_into(tmp_path, add_images, labels):
    """Azure's AutoML has a folder for each."""
    add_images(tmp_path, "images/a.jpg", "images/b.jpg")
    for split, name in (("train", "a"), ("validation", "b")):
        line = {"image_url": f"azureml://x/{name}.jpg", "label": ["cat"]}
        put(tmp_path, f"{split}-mltable-folder/annotations.jsonl", lines(line))
    assert labels(load_dataset(tmp_path)) == {("train", "images/a.jpg"): "cat", ("val", "images/b.jpg"): "cat"}


def test_a_project_of_another_tool_is_no_folder_of_labels(tmp_path, add_images):
    add_images(tmp_path, "cats/img/a.jpg")
    put(tmp_path, "meta.json", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []})
    assert message(load_dataset, tmp_path).startswith("this looks like a Supervisely project")
    put(tmp_path, "meta.json", [{"image_id": 1, "category_id": 1, "score": 0.5}])  # results beside a folder per label
    assert recognise(tmp_path) == "folder"


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 32_000, "[" * 64_000, '{"a":' * 10_000, '{"' + "a" * 64_000, "{" + '"a":"\\' * 9_000],
    ids=["quotes", "lists", "objects", "key", "escapes"],
)
def test_the_beginning_of_a_file_is_recognised_in_one_pass(tmp_path, text):
    """However it was made: no expression goes back over what it has read."""
    begun = time.process_time()
    outline(text)
    for name, content in (("a.json", text), ("a.xml", "<!---->" * 9_000 + "x"), ("b.xml", "<?a?>" * 9_000)):
        put(tmp_path, name, content)
    put(tmp_path, "c.txt", "1" * 60_000 + "x")
    put(tmp_path, "c.jpg", "")
    with suppress(PolytagError):
        recognise(tmp_path)
    assert time.process_time() - begun < 2


def test_two_exports_in_one_folder_are_asked_about(tmp_path):
    for name in ("monday.json", "tuesday.json"):
        put(tmp_path, name, [task(0, "cat")])
    assert message(load_dataset, tmp_path) == (
        f"several exports in one folder\n  where: {tmp_path}\n  got: monday.json (a file of Label Studio's JSON export), "
        "tuesday.json (a file of Label Studio's JSON export)\n  expected: one file, or files of one tool with the names of splits\n"
        f"  next: give the file itself, such as {tmp_path}/monday.json"
    )


def test_an_export_with_the_name_of_coco_is_no_coco_and_the_other_way_round(tmp_path, add_images):
    add_images(tmp_path, "a.jpg")
    put(tmp_path, "labels.json", {"classes": None, "labels": {"a": ["cat"]}})
    assert recognise(tmp_path) == "export"
    coco = {
        "annotations": [{"image_id": 1, "category_id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": "a.jpg"}],
    }
    for order in (coco, dict(reversed(coco.items()))):
        put(tmp_path, "labels.json", order)
        assert recognise(tmp_path) == recognise(tmp_path / "labels.json") == "coco"


@pytest.mark.parametrize(
    ("title", "content"),
    [
        ("a Labelbox export", {"data_row": {"id": "x", "external_id": "a.jpg"}, "projects": {}}),
        ("an Encord export", [{"label_hash": "x", "data_units": {}}]),
        ("a V7 Darwin file", {"version": "2.0", "item": {"name": "a.jpg", "slots": []}, "annotations": []}),
        ("a Supervisely project", {"description": "", "tags": [], "size": {"height": 1, "width": 1}, "objects": []}),
        ("a Supervisely project", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []}),
        ("a Prodigy export", {"image": "a.jpg", "label": "cat", "answer": "reject", "_task_hash": 1}),
        ("a Doccano export", {"id": 1, "text": "a.jpg", "label": ["cat"]}),
        ("a Scale export", [{"task_id": "1", "response": {"annotations": [{"label": "cat"}]}}]),
        ("BDD100K's or Scalabel's JSON", [{"name": "a.jpg", "labels": [{"category": "car"}]}]),
        ("an Azure Custom Vision export", {"images": [{"tags": [{"tagName": "cat"}]}]}),
        ("a SuperAnnotate file", {"metadata": {"name": "a.jpg"}, "instances": [{"className": "cat"}], "tags": []}),
        ("detections of a model in COCO's format", [{"image_id": 1, "category_id": 1, "bbox": [], "score": 0.5}]),
    ],
)
def test_a_tool_that_is_not_read_is_named(tmp_path, title, content):
    path = put(tmp_path, "export.json", content)
    for data in (tmp_path, path):
        text = message(load_dataset, data)
        assert text.startswith(f"this looks like {title}, which polytag does not read\n  where: {path}\n"), text
        assert "\n  next: " in text
    assert all(name in REFERENCE for name in re.findall("[A-Z][A-Za-z0-9]+", title))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.json", {"metainfo": {"classes": ["cat"]}, "data_list": [{"img_path": "a.jpg", "gt_label": [1]}]},
         "a label whose class the file does not declare\n  where: {path}: data_list[0]\n  got: 1\n"
         "  expected: the number of one of 1 class"),
        ("x.json", {"images": [{"imageId": "a"}], "annotations": [{"imageId": "z", "labelId": ["1"]}]},
         "an annotation of an unknown image\n  where: {path}\n  got: imageId 'z'\n  expected: an id from images, once"),
        ("x.manifest", '{"source-ref": "s3://b/a.jpg", "x": [3], "x-metadata": {"class-map": {}}}',
         "a label without a name in the class map\n  where: {path}:1\n  got: 3\n  expected: a number of the class map"),
        ("x.jsonl", '{"imageGcsUri": "gs://b/a.jpg", "classificationAnnotations": [{"displayName": ""}]}',
         "a value that cannot be read\n  where: {path}:1\n  got: ''\n  expected: a 'displayName'"),
        ("x.json", [task(0, annotations=[]), task(1, annotations=[])],
         "annotations without labels\n  where: {path}\n  got: no task that anybody has annotated\n  expected: at least one label\n"
         "  next: export the project after annotating, as JSON"),
        ("x.json", {"a.jpg": {"caption": "a cat on a mat"}},
         "captions, but no tags\n  where: {path}\n  got: entries without 'tags'\n"
         '  expected: such as {{"img/1.jpg": {{"tags": "cat, dog"}}}}\n'
         "  next: tag the images first, for example with tag_images_by_wd14_tagger.py of sd-scripts"),
        ("x.json", [{"image": "data:image/png;base64,iVBORw0KGgo", "labels": ["cat"]}],
         "an image inside the annotations\n  where: {path}: [0]\n  got: data:image/png;base64,iVBORw0K...\n"
         "  expected: the name of a file\n  next: save the images as files, and name them here"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, add_images, name, content, expected):
    add_images(tmp_path, *NAMES)
    path = put(tmp_path, name, content)
    assert message(load_dataset, path) == expected.format(path=path)


COMMUNITY = (
    "azure-jsonl", "dm-datumaro", "fo-classification", "fo-dataset", "fo-detection", "imaterialist", "kohya-meta",
    "labelstudio-json", "mmpretrain", "sagemaker-manifest", "vertex-jsonl", "via-csv", "via-json", "cvat-images", "dm-cvat",
    "fo-cvat",
)  # fmt: skip


@pytest.mark.parametrize("layout", COMMUNITY)
def test_the_files_of_the_tools_themselves(shared: Path, layout):
    folder = shared / "cases/community" / layout
    if not folder.is_dir():
        pytest.skip("the files of other tools are not beside this checkout (../shared/cases/community)")
    truth = json.loads((folder.parent / "truth.json").read_text())
    dataset = load_dataset(folder)
    rows = {Path(row["id"]).stem: row for row in truth["rows"]}
    assert len(dataset) == len(rows)
    for path, split, target_C in zip(dataset.paths, dataset.split_N, dataset.target_NC.tolist(), strict=True):
        present = {name for name, target in zip(dataset.label_set.names, target_C, strict=True) if target == 1}
        present = {truth["classes"][int(name)] if name.isdecimal() else name for name in present}  # iMaterialist has numbers
        assert present == set(rows[path.stem]["labels"]), path
        assert split in ("", rows[path.stem]["split"])
        assert -1 not in target_C


def test_a_list_of_json_objects_with_a_value_for_each_class_is_a_table(tmp_path, add_images, labels):
    add_images(tmp_path, "a.jpg", "b.jpg")
    rows = [{"image": "a.jpg", "cat": 1, "dog": False}, {"image": "b.jpg", "cat": 0, "dog": True}]
    path = put(tmp_path, "rows.json", rows)
    for data in (tmp_path, path):
        assert labels(load_dataset(data)) == {("", "a.jpg"): "cat", ("", "b.jpg"): "dog"}
    put(tmp_path, "rows.json", [{**row, "is_night": 1} for row in rows])
    assert message(load_dataset, path).startswith("columns of 1 and 0 that may be no classes")
    (tmp_path / "annotations").mkdir()
    path.rename(tmp_path / "annotations/rows.json")
    assert message(load_dataset, tmp_path).endswith(f"give the folder {tmp_path / 'annotations'}, which looks like the format csv")


def test_json_of_no_known_tool_is_named_with_a_way_out(tmp_path, add_images):
    add_images(tmp_path, "a.jpg")
    put(tmp_path, "stems.json", {"a": ["cat", "dog"]})
    way_out = 'write the labels as {"a.jpg": ["cat", "dog"]}, or as a CSV file with the columns image and labels'
    assert message(load_dataset, tmp_path).endswith(f"next: stems.json has the keys of no tool that is known: {way_out}")
    assert message(load_dataset, tmp_path / "stems.json").endswith(f"next: {way_out}")
    (tmp_path / "stems.json").rename(tmp_path / "stems.jsonl")
    next_step = f"next: give the file {tmp_path / 'stems.jsonl'} itself, if each of its lines has an image and labels"
    assert message(load_dataset, tmp_path).endswith(next_step)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_text_of_several_labels_is_divided_as_in_a_table(tmp_path, add_images, labels, as_list: bool):
    add_images(tmp_path, *NAMES)

    def written(**value: str) -> Path:
        named = {f"{stem}.jpg": text for stem, text in value.items()}
        rows = [{"image": name, "labels": text} for name, text in named.items()] if as_list else named
        return put(tmp_path, "labels.json", rows)

    path = written(a="cat, dog", b="dog", c="")
    assert labels(load_dataset(path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "dog", ("", "c.jpg"): ""}
    path = written(a="cat dog", b="big bird")
    assert message(load_dataset, path).startswith("spaces between labels, or inside their names")
    dataset = load_dataset(path, options=ReadOptions(separator=" "))
    assert dataset.label_set.names == ("big", "bird", "cat", "dog")
    path = written(a="['cat', 'dog']", b="['dog']")
    assert labels(load_dataset(path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "dog"}
    path = written(a="0 1 1", b="1 0 0")
    assert message(load_dataset, path).startswith("labels as vectors of 0 and 1, without the names of the classes")
    path = written(a="cat", b="nan")
    where = f"{path}: " + ("[1].labels" if as_list else "b.jpg")
    assert message(load_dataset, path).startswith(f"a label that may say that there is none\n  where: {where}\n")


def test_a_list_of_0_and_1_for_each_image_names_no_class(tmp_path, add_images):
    add_images(tmp_path, *NAMES)
    path = put(tmp_path, "labels.json", {"a.jpg": [0, 1, 1], "b.jpg": [1, 0, 0]})
    assert message(load_dataset, path).startswith("labels as vectors of 0 and 1, without the names of the classes")
