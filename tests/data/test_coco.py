"""COCO instances JSON, as the COCO site, Roboflow, FiftyOne and CVAT lay it out."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.data.formats.coco import read_coco
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.recognise import recognise
from polytag.data.formats.records import ReadingContext
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError

CATEGORIES = [
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "indoor", "id": 90, "name": "toothbrush"},
]

CONTEXT = ReadingContext(index=FileIndex(), log=ReadingLog())


def annotation(number, image_id, category_id, *, box=(10.0, 10.0, 50.0, 40.0), crowd=0):
    """As COCO's own files hold it."""
    segmentation = {"counts": [10, 20], "size": [480, 640]} if crowd else [[10.0, 10.0, 60.0, 10.0, 60.0, 50.0]]
    return {
        "segmentation": segmentation, "area": box[2] * box[3] * 0.7, "iscrowd": crowd, "image_id": image_id, "bbox": list(box),
        "category_id": category_id, "id": number,
    }  # fmt: skip


def instances(images, annotations, categories=CATEGORIES):
    """A file as COCO's are: info, licenses, images, annotations, categories."""
    return {
        "info": {"description": "COCO 2017 Dataset", "version": "1.0", "year": 2017},
        "licenses": [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "images": [
            {"license": 4, "file_name": name, "height": 480, "width": 640, "date_captured": "2013-11-14 17:02:52", "id": number}
            for number, name in images.items()
        ],
        "annotations": annotations,
        "categories": categories,
    }


TRAIN = instances(
    {9: "000000000009.jpg", 25: "000000000025.jpg"}, [annotation(1, 9, 18), annotation(2, 9, 1), annotation(3, 9, 18)]
)
VAL = instances({139: "000000000139.jpg"}, [annotation(4, 139, 90)])


@pytest.fixture
def coco(tmp_path, write, add_images):
    """COCO 2017 in small, with the captions and the key points that lie beside the instances."""
    write(tmp_path / "annotations/instances_train2017.json", json.dumps(TRAIN))
    write(tmp_path / "annotations/instances_val2017.json", json.dumps(VAL))
    write(tmp_path / "annotations/captions_val2017.json", json.dumps({"images": [], "annotations": []}))
    write(tmp_path / "annotations/person_keypoints_val2017.json", "{}")
    add_images(tmp_path, "train2017/000000000009.jpg", "train2017/000000000025.jpg", "val2017/000000000139.jpg")
    return tmp_path


def test_the_layout_of_coco_2017(coco, labels):
    assert recognise(coco) == "coco"
    dataset = load_dataset(coco)
    assert labels(dataset) == {
        ("train", "train2017/000000000009.jpg"): "person dog",
        ("train", "train2017/000000000025.jpg"): "",
        ("val", "val2017/000000000139.jpg"): "toothbrush",
    }
    assert dataset.label_set.names == ("person", "dog", "toothbrush")  # by category id, as pycocotools lists them
    assert dataset.paths[2] == coco / "val2017/000000000139.jpg"


def test_one_file_of_it_alone_has_no_split(coco, labels):
    dataset = load_dataset(coco / "annotations/instances_val2017.json")
    assert labels(dataset) == {("", "val2017/000000000139.jpg"): "toothbrush"}


@pytest.mark.parametrize("folder", ["images/train2017", "images/train", "images", "data", "."])
def test_other_places_of_the_images(tmp_path, write, add_images, folder):
    write(tmp_path / "annotations/instances_train2017.json", json.dumps(TRAIN))
    add_images(tmp_path / folder, "000000000009.jpg", "000000000025.jpg")
    assert load_dataset(tmp_path).paths[0] == tmp_path / folder / "000000000009.jpg"


def test_a_chosen_folder_of_images(tmp_path, write, add_images):
    write(tmp_path / "labels/train.json", json.dumps(TRAIN))
    add_images(tmp_path / "elsewhere", "000000000009.jpg", "000000000025.jpg")
    dataset = load_dataset(tmp_path / "labels/train.json", options=ReadOptions(image_dirs=(str(tmp_path / "elsewhere"),)))
    assert dataset.paths[1] == tmp_path / "elsewhere/000000000025.jpg"


def test_roboflow_has_a_file_in_each_split_and_a_category_that_only_groups(tmp_path, write, add_images, labels):
    categories = [
        {"id": 0, "name": "hard-hats", "supercategory": "none"},
        {"id": 1, "name": "head", "supercategory": "hard-hats"},
        {"id": 2, "name": "helmet", "supercategory": "hard-hats"},
    ]
    for split, name, category in (("train", "a_jpg.rf.1f.jpg", 1), ("valid", "b_jpg.rf.2e.jpg", 2)):
        content = instances({0: name}, [annotation(0, 0, category)], categories)
        write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
        add_images(tmp_path / split, name)
    dataset = load_dataset(tmp_path)
    assert dataset.label_set.names == ("head", "helmet")
    assert labels(dataset) == {("train", "train/a_jpg.rf.1f.jpg"): "head", ("val", "valid/b_jpg.rf.2e.jpg"): "helmet"}


def test_fiftyone_writes_labels_json_beside_data(tmp_path, write, add_images, labels):
    write(tmp_path / "labels.json", json.dumps(VAL))
    add_images(tmp_path / "data", "000000000139.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "data/000000000139.jpg"): "toothbrush"}


def test_file_names_with_folders_as_cvat_writes_them(tmp_path, write, add_images, labels):
    write(tmp_path / "annotations/instances_default.json", json.dumps(instances({1: "job 1/a.jpg"}, [annotation(1, 1, 1)])))
    add_images(tmp_path / "images", "job 1/a.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "images/job 1/a.jpg"): "person"}


@pytest.mark.parametrize(("crowd", "expected"), [("positive", "person"), ("ignore", "?person"), ("negative", "")])
def test_a_class_with_only_a_crowd_region(tmp_path, write, add_images, labels, crowd, expected):
    write(tmp_path / "labels.json", json.dumps(instances({1: "a.jpg"}, [annotation(1, 1, 1, crowd=1)])))
    add_images(tmp_path, "a.jpg")
    assert labels(load_dataset(tmp_path, options=ReadOptions(crowd=crowd))) == {("", "a.jpg"): expected}


@pytest.mark.parametrize(("small", "expected"), [("positive", "person dog"), ("ignore", "?person dog"), ("negative", "dog")])
def test_a_class_with_only_small_boxes(tmp_path, write, add_images, labels, small, expected):
    boxes = [
        annotation(1, 1, 1, box=(0, 0, 9, 11)),
        annotation(2, 1, 18, box=(0, 0, 3, 3)),
        annotation(3, 1, 18, box=(0, 0, 10, 10)),
    ]
    write(tmp_path / "labels.json", json.dumps(instances({1: "a.jpg"}, boxes)))
    add_images(tmp_path, "a.jpg")
    options = ReadOptions(small=small, min_box_area_px=100)
    assert labels(load_dataset(tmp_path, options=options)) == {("", "a.jpg"): expected}


def test_an_annotation_without_a_box_speaks_of_the_image(tmp_path, write, add_images, labels):
    content = instances(
        {1: "a.jpg"}, [{"id": 1, "image_id": 1, "category_id": 18}, {"id": 2, "image_id": 1, "category_id": 1, "bbox": []}]
    )
    write(tmp_path / "labels.json", json.dumps(content))
    add_images(tmp_path, "a.jpg")
    assert labels(load_dataset(tmp_path, options=ReadOptions(min_box_area_px=50))) == {("", "a.jpg"): "person dog"}


boxes = st.tuples(st.integers(0, 5), st.sampled_from([1, 18, 90]), st.booleans(), st.integers(1, 20))


@given(
    objects=st.lists(boxes, max_size=25),
    crowd=st.sampled_from(["ignore", "positive", "negative"]),
    small=st.sampled_from(["ignore", "negative"]),
)
def test_against_a_plain_reading_image_by_image(tmp_path_factory, objects, crowd, small):
    """The oracle asks each (image, class) anew, as one would with pycocotools' getAnnIds: are there sure ones, doubtful ones?"""
    folder = tmp_path_factory.mktemp("coco")
    for number in range(6):
        (folder / f"{number}.jpg").touch()
    annotations = [annotation(n, i, c, crowd=int(k), box=(0, 0, side, side)) for n, (i, c, k, side) in enumerate(objects)]
    content = instances({number: f"{number}.jpg" for number in range(6)}, annotations)
    (folder / "labels.json").write_text(json.dumps(content))
    dataset = read_coco(
        folder, crowd=crowd, small=small, min_box_area_px=100, context=ReadingContext(index=FileIndex(), log=ReadingLog())
    )
    outcome = {"ignore": -1, "positive": 1, "negative": 0}
    for i in range(6):
        for c, category in enumerate((1, 18, 90)):
            mine = [a for a in content["annotations"] if a["image_id"] == i and a["category_id"] == category]
            worth = {outcome[crowd] if a["iscrowd"] else 1 if a["bbox"][2] * a["bbox"][3] >= 100 else outcome[small] for a in mine}
            assert dataset.target_NC[i, c] == (1 if 1 in worth else -1 if -1 in worth else 0)


# ---- bad input ----


def message(data, content=None):
    if content is not None:
        (data / "labels.json").write_text(content if isinstance(content, str) else json.dumps(content))
        (data / "a.jpg").touch()
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(min_box_area_px=1))
    return str(error.value)


def test_malformed_json(tmp_path):
    assert message(tmp_path, '{"images": [],\n "annotations": [,]}') == (
        f"malformed JSON\n  where: {tmp_path}/labels.json:2\n  got: Expecting value, at column 18\n  expected: JSON"
    )


def test_json_nested_too_deep(tmp_path):
    assert message(tmp_path, "[" * 100_000) == (
        f"malformed JSON\n  where: {tmp_path}/labels.json:1\n  got: brackets nested too deep\n  expected: JSON"
    )


@pytest.mark.parametrize("content", [[], {}, {"images": {}}, {"images": [3]}])
def test_json_of_another_kind(tmp_path, content):
    assert message(tmp_path, content) == (
        f"not a COCO instances file\n  where: {tmp_path}/labels.json\n  got: no list 'images'\n"
        "  expected: images, annotations, categories\n"
        '  next: write the labels as {"a.jpg": ["cat", "dog"]}, or as a CSV file with the columns image and labels'
    )


def test_an_unknown_class(tmp_path):
    assert message(tmp_path, instances({1: "a.jpg"}, [annotation(1, 1, 1), annotation(2, 1, 99)])) == (
        f"an annotation of an unknown class\n  where: {tmp_path}/labels.json: annotations[1]\n  got: category_id 99\n"
        "  expected: an id from categories"
    )


def test_an_unknown_image(tmp_path):
    assert message(tmp_path, instances({1: "a.jpg"}, [annotation(1, 7, 1)])) == (
        f"an annotation of an unknown image\n  where: {tmp_path}/labels.json: annotations[0]\n  got: image_id 7\n"
        "  expected: an id from images"
    )


def test_an_image_that_does_not_exist(tmp_path):
    assert message(tmp_path, instances({1: "a.jpg", 2: "b.jpg"}, [])) == (
        f"a listed image does not exist\n  where: {tmp_path}/labels.json: images[1]\n  got: 'b.jpg'\n"
        f"  expected: an image in {tmp_path}/images or {tmp_path}/data or {tmp_path}\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


@pytest.mark.parametrize(
    "images",
    [
        [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
        [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}],
    ],
)
def test_an_image_listed_twice(tmp_path, images):
    last = images[1]
    assert message(tmp_path, {"images": images, "annotations": [], "categories": CATEGORIES}) == (
        f"an image is listed twice\n  where: {tmp_path}/labels.json: images[1]\n"
        f"  got: id {last['id']}, '{last['file_name']}'\n  expected: every image once"
    )


@pytest.mark.parametrize(
    ("image", "got"), [({"id": 1}, "nothing"), ({"id": 1, "file_name": None}, "None"), ({"id": 1, "file_name": ""}, "''")]
)
def test_an_image_without_a_name(tmp_path, image, got):
    assert message(tmp_path, {"images": [image], "annotations": [], "categories": CATEGORIES}) == (
        f"no usable 'file_name'\n  where: {tmp_path}/labels.json: images[0]\n  got: {got}\n  expected: a number or a text"
    )


@pytest.mark.parametrize("twice", [{"id": 1, "name": "cat"}, {"id": 2, "name": "person"}])
def test_a_category_given_twice(tmp_path, twice):
    assert message(tmp_path, instances({1: "a.jpg"}, [], [{"id": 1, "name": "person"}, twice])) == (
        f"a category is given twice\n  where: {tmp_path}/labels.json: categories[1]\n"
        f"  got: id {twice['id']}, '{twice['name']}'\n  expected: every category once"
    )


def test_a_box_that_is_none(tmp_path):
    content = instances({1: "a.jpg"}, [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, None, 4]}])
    assert message(tmp_path, content) == (
        f"a box that cannot be read\n  where: {tmp_path}/labels.json: annotations[0]\n  got: [1, 2, None, 4]\n"
        "  expected: [x, y, width, height]"
    )


def test_no_category(tmp_path):
    assert message(tmp_path, instances({1: "a.jpg"}, [], [])) == (
        f"no class was found\n  where: {tmp_path}/labels.json\n  got: annotations without a single label\n"
        "  expected: at least one label"
    )


def test_two_files_that_disagree(coco, write, labels):
    categories = [*CATEGORIES[:2], {"id": 90, "name": "teeth"}]
    content = instances({139: "000000000139.jpg"}, [annotation(4, 139, 90)], categories)
    path = write(coco / "annotations/instances_val2017.json", json.dumps(content))
    assert message(coco) == (
        f"two files disagree about the categories\n  where: {path}\n  got: category 90: 'teeth'\n"
        f"  expected: 'toothbrush', as in {coco}/annotations/instances_train2017.json\n"
        "  next: correct the categories; or go by their names with --yes"
    )
    accepted = load_dataset(coco, options=ReadOptions(accept_doubts=True))
    assert labels(accepted)["val", "val2017/000000000139.jpg"] == "teeth"


def test_classes_that_one_file_does_not_list_are_absent_there_and_said(coco, write):
    content = instances({139: "000000000139.jpg"}, [], [*CATEGORIES[:2], {"id": 91, "name": "comb"}])
    write(coco / "annotations/instances_val2017.json", json.dumps(content))
    dataset = load_dataset(coco)
    assert dataset.label_set.names == ("person", "dog", "toothbrush", "comb")
    assert dataset.interpretation.notes == (
        "instances_train2017.json does not list all classes, so its images have none of comb",
        "instances_val2017.json does not list all classes, so its images have none of toothbrush",
    )


def test_no_json_file(tmp_path):
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path, options=ReadOptions(format="coco"))
    assert str(error.value) == (
        f"no COCO annotations\n  where: {tmp_path}\n"
        "  got: no JSON file in annotations, in train, val or test, or in the folder itself\n"
        "  expected: such as annotations/instances_train2017.json or train/_annotations.coco.json"
    )


def test_target_dtype_is_small(coco):
    assert load_dataset(coco).target_NC.dtype == np.int8


# ---- as other tools write it ----


IMAGE_LEVEL = [{"id": 1, "image_id": 9, "category_id": 18}, {"id": 2, "image_id": 9, "category_id": 1}]


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/labels_{}.json", "images/{}"),  # datumaro
        ("annotations/bdd100k_labels_coco_{}.json", "images/{}"),
        ("{}/annotations.json", "{}/images"),  # supervision
        ("{}/anything.json", "{}"),
        ("{}.kwcoco.json", "images"),
        ("instances_{}.json", "{}"),
    ],
)
def test_files_and_images_in_the_places_of_other_tools(tmp_path, write, add_images, labels, file, images):
    for split, names in {"train": {9: "a.jpg"}, "val": {9: "b.jpg"}}.items():
        write(tmp_path / file.format(split), json.dumps(instances(names, IMAGE_LEVEL)))
        write(tmp_path / "annotations" / f"image_info_{split}.json", json.dumps(instances(names, [], [])))
        add_images(tmp_path / images.format(split), *names.values())
    if not file.startswith("annotations"):
        for path in (tmp_path / "annotations").iterdir():
            path.unlink()
    assert recognise(tmp_path) == "coco"
    found = load_dataset(tmp_path)
    assert dict(zip(found.split_N, labels(found).values(), strict=True)) == {"train": "person dog", "val": "person dog"}


def test_datumaros_labels_and_boxes_of_one_image_are_joined(tmp_path, write, add_images, labels):
    write(tmp_path / "annotations/instances_train.json", json.dumps(instances({9: "a.jpg"}, [annotation(1, 9, 18)])))
    write(tmp_path / "annotations/labels_train.json", json.dumps(instances({3: "a.jpg"}, [annotation(1, 3, 1)])))
    add_images(tmp_path / "images/train", "a.jpg")
    assert labels(load_dataset(tmp_path)) == {("train", "images/train/a.jpg"): "person dog"}


def test_lvis_knows_some_classes_of_each_image(tmp_path, write, add_images, labels):
    """federated: of every image only some classes are checked. Images of train may be in the folder of val."""
    content = instances({}, [annotation(1, 9, 18)])
    content["images"] = [
        {
            "id": 9,
            "coco_url": "http://images.cocodataset.org/val2017/a.jpg",
            "neg_category_ids": [1],
            "not_exhaustive_category_ids": [18],
        },
        {
            "id": 10,
            "coco_url": "http://images.cocodataset.org/train2017/a.jpg",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        },
    ]
    write(tmp_path / "lvis_v1_train.json", json.dumps(content))
    add_images(tmp_path, "val2017/a.jpg", "train2017/a.jpg")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {
        ("train", "val2017/a.jpg"): "dog ?toothbrush", ("train", "train2017/a.jpg"): "?person ?dog ?toothbrush",
    }  # fmt: skip
    assert dataset.interpretation.notes == (
        "of each image some classes were checked (neg_category_ids, as in LVIS); the others are unknown",
    )


def test_camera_traps_have_a_category_of_nothing_and_groups(tmp_path, write, add_images, labels):
    categories = [{"id": 0, "name": "empty"}, {"id": 1, "name": "deer"}]
    images = [{"id": name, "file_name": f"{name}.jpg", "location": name[0], "seq_id": name} for name in ("a1", "a2", "b1")]
    annotations = [{"id": n, "image_id": image["id"], "category_id": int(n == 1)} for n, image in enumerate(images)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    write(tmp_path / "caltech_images_20210113.json", json.dumps(content))
    add_images(tmp_path / "cct_images", "a1.jpg", "a2.jpg", "b1.jpg")
    dataset = load_dataset(tmp_path, options=ReadOptions(group_column="location"))
    assert list(labels(dataset).values()) == ["", "deer", ""]
    assert dataset.label_set.names == ("deer",)
    assert dataset.group_N == ("a", "a", "b")
    assert ("groups", "not used: images of one location depend on each other, which --group location keeps together") in (
        load_dataset(tmp_path).interpretation.found
    )
    content["annotations"][0]["bbox"] = [0, 0, 5, 5]
    write(tmp_path / "caltech_images_20210113.json", json.dumps(content))
    assert load_dataset(tmp_path).label_set.names == ("empty", "deer")  # boxes of something that is empty


def test_pandas_writes_whole_numbers_with_a_point_and_roboflow_a_group_called_like_its_class(tmp_path, write, add_images, labels):
    categories = [{"id": 0, "name": "dog", "supercategory": "none"}, {"id": 1, "name": "dog", "supercategory": "dog"}]
    content = instances({9: "a.jpg"}, [{"id": 0, "image_id": 9.0, "category_id": 1.0, "iscrowd": 0.0}], categories)
    write(tmp_path / "labels.json", json.dumps(content))
    add_images(tmp_path, "a.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "dog"}


def test_the_folder_of_an_image_may_be_apart_and_annotations_without_category_say_nothing(tmp_path, write, add_images, labels):
    content = instances({9: "a.jpg"}, [annotation(1, 9, 18), {"id": 2, "image_id": 9, "category_id": None}])
    content["images"][0]["folder"] = "../photos"
    write(tmp_path / "json/ann.json", json.dumps(content))
    add_images(tmp_path, "photos/a.jpg")
    dataset = load_dataset(tmp_path / "json")
    assert dataset.paths == (tmp_path / "photos/a.jpg",)
    assert dataset.interpretation.notes == ("annotations without a category are left out",)


@pytest.mark.parametrize("file", ["panoptic_train2017.json", "person_keypoints_train2017.json"])
def test_a_file_of_another_task_is_read_where_it_is_the_only_one(tmp_path, write, add_images, labels, file):
    """Of panoptic files each annotation holds the objects of an image."""
    objects = [{"category_id": 18, "iscrowd": 0}, {"category_id": 1, "iscrowd": 1}]
    panoptic = [{"image_id": 9, "file_name": "a.png", "segments_info": objects}, {"image_id": 25, "segments_info": []}]
    flat = [{"image_id": 9, "keypoints": [1, 2, 2], **each} for each in objects]
    content = instances({9: "a.jpg", 25: "b.jpg"}, panoptic if "panoptic" in file else flat)
    write(tmp_path / "annotations" / file, json.dumps(content))
    add_images(tmp_path, "train2017/a.jpg", "train2017/b.jpg", "val2017/a.jpg")
    assert labels(load_dataset(tmp_path)) == {("train", "train2017/a.jpg"): "person dog", ("train", "train2017/b.jpg"): ""}


def test_a_file_whose_annotations_have_no_category_is_asked_about(tmp_path, write, add_images, labels):
    write(tmp_path / "labels.json", json.dumps(instances({1: "a.jpg"}, [{"id": 1, "image_id": 1, "caption": "a dog"}])))
    add_images(tmp_path / "data", "a.jpg")
    assert message(tmp_path) == (
        f"no annotation has a category\n  where: {tmp_path / 'labels.json'}\n"
        "  got: 1 annotation, such as one with id, image_id, caption\n  expected: a category_id in each\n"
        "  next: give a file of objects, such as instances_train2017.json; or accept images that show nothing with --yes"
    )
    assert labels(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))) == {("", "data/a.jpg"): ""}


def test_shapes_are_not_kept_in_memory(tmp_path, write, add_images):
    """They are nine tenths of a file: of 4 MB of polygons nothing remains while the next ones are parsed."""
    polygon = [[0.1234567] * 2000]
    annotations = [{"id": n, "image_id": 1, "category_id": 1, "segmentation": polygon} for n in range(200)]
    path = write(tmp_path / "labels.json", json.dumps(instances({1: "a.jpg"}, annotations)))
    add_images(tmp_path / "data", "a.jpg")
    tracemalloc.start()
    load_dataset(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size  # bytes and text; with the shapes it is 3.9 times
