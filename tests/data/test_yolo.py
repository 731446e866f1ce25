"""YOLO folders as Ultralytics' documentation, Roboflow, LabelImg and CVAT (Darknet) lay them out."""

import pytest

from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError

ULTRALYTICS = """# Train/val/test sets as 1) dir: path/to/imgs, 2) file: path/to/imgs.txt
path: ../datasets/coco8 # dataset root dir
train: images/train # train images (relative to 'path') 4 images
val: images/val # val images (relative to 'path') 4 images
test: # test images (optional)

# Classes
names:
  0: person
  1: bicycle
  2: traffic light
"""
BOX, POLYGON = "0.5 0.5 0.25 0.4", "0.1 0.1 0.9 0.1 0.5 0.8"


@pytest.fixture
def coco8(tmp_path, write, add_images):
    """`images/` mirrored by `labels/`: boxes, a polygon, an empty label file and a missing one."""
    root = tmp_path / "datasets/coco8"
    write(root / "data.yaml", ULTRALYTICS)
    write(root / "labels/train/a.txt", f"0 {BOX}\n2 {BOX}\n0 {BOX}\n")
    write(root / "labels/train/b.txt", f"1 {POLYGON}\n")
    write(root / "labels/val/c.txt", "")
    write(root / "labels/train.cache", "not a label file")
    add_images(root / "images", "train/a.jpg", "train/b.png", "val/c.jpg", "val/deeper/d.JPG")
    return root


def test_the_layout_of_ultralytics(coco8, labels):
    assert recognise(coco8) == "yolo"
    expected = {
        ("train", "images/train/a.jpg"): "person traffic light",
        ("train", "images/train/b.png"): "bicycle",
        ("val", "images/val/c.jpg"): "",
        ("val", "images/val/deeper/d.JPG"): "",
    }
    for data in (coco8, coco8 / "data.yaml"):
        dataset = load_dataset(data)
        assert labels(dataset) == expected
        assert dataset.label_set.names == ("person", "bicycle", "traffic light")


def test_the_path_in_the_yaml_may_be_absolute_and_the_yaml_elsewhere(coco8, tmp_path, write):
    (coco8 / "data.yaml").unlink()
    path = write(tmp_path / "configs/mine.yml", ULTRALYTICS.replace("../datasets/coco8", str(coco8)))
    assert load_dataset(path).paths[0] == coco8 / "images/train/a.jpg"
    assert len(load_dataset(path)) == 4


def test_roboflow_names_folders_one_level_too_high_and_a_test_folder_that_is_not_there(tmp_path, write, add_images, labels):
    write(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['head', 'helmet']\n\n"
        "roboflow:\n  workspace: someone\n  project: hard-hats\n  version: 1\n  license: CC BY 4.0\n",
    )
    write(tmp_path / "train/labels/a_jpg.rf.1f.txt", f"1 {BOX}")
    write(tmp_path / "valid/labels/b_jpg.rf.2e.txt", f"0 {BOX}")
    add_images(tmp_path, "train/images/a_jpg.rf.1f.jpg", "valid/images/b_jpg.rf.2e.jpg")
    assert labels(load_dataset(tmp_path)) == {
        ("train", "train/images/a_jpg.rf.1f.jpg"): "helmet",
        ("val", "valid/images/b_jpg.rf.2e.jpg"): "head",
    }


def test_lists_of_images_and_lists_of_folders_in_the_yaml(coco8, write, labels):
    write(coco8 / "data.yaml", "train: [images/train, images/val/deeper]\nval: val.txt\nnames: [a, b, c]\n")
    write(coco8 / "val.txt", "./images/val/c.jpg\n\n")
    assert labels(load_dataset(coco8)) == {
        ("train", "images/train/a.jpg"): "a c",
        ("train", "images/train/b.png"): "b",
        ("train", "images/val/deeper/d.JPG"): "",
        ("val", "images/val/c.jpg"): "",
    }


@pytest.mark.parametrize("names_file", ["classes.txt", "labels/classes.txt"])
def test_labelimg_writes_classes_txt(tmp_path, write, add_images, labels, names_file):
    write(tmp_path / names_file, "dog\nperson\n")
    write(tmp_path / "labels/a.txt", f"1 {BOX}\n")
    add_images(tmp_path / "images", "a.jpg", "b.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "images/a.jpg"): "person", ("", "images/b.jpg"): ""}


def test_labelimg_with_labels_beside_the_images(tmp_path, write, add_images, labels):
    write(tmp_path / "classes.txt", "dog\nperson\n")
    write(tmp_path / "a.txt", f"0 {BOX}\n")
    add_images(tmp_path, "a.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "dog"}


@pytest.mark.parametrize(
    ("image", "label"), [("images/train/a.jpg", "labels/train/a.txt"), ("train/images/a.jpg", "train/labels/a.txt")]
)
def test_splits_by_folder_without_a_yaml(tmp_path, write, add_images, labels, image, label):
    write(tmp_path / "classes.txt", "dog\n")
    val_image, val_label = (text.replace("train", "valid") for text in (image, label))
    write(tmp_path / label, f"0 {BOX}\n")
    write(tmp_path / val_label, "")
    add_images(tmp_path, image, val_image)
    assert labels(load_dataset(tmp_path)) == {("train", image): "dog", ("val", val_image): ""}
    add_images(tmp_path / ("images" if image.startswith("images") else "."), "loose.jpg")
    assert load_dataset(tmp_path).interpretation.notes == ("left out, in no folder of a split: loose.jpg",)


def test_cvat_writes_darknet_lists(tmp_path, write, add_images, labels):
    write(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(tmp_path / "obj.names", "dog\nperson\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/sub/b.jpg\n")
    write(tmp_path / "valid.txt", "data/obj_valid_data/c.jpg\n")
    write(tmp_path / "obj_train_data/a.txt", f"0 {BOX}\n")
    write(tmp_path / "obj_train_data/sub/b.txt", "")
    write(tmp_path / "obj_valid_data/c.txt", f"1 {BOX}\n")
    add_images(tmp_path, "obj_train_data/a.jpg", "obj_train_data/sub/b.jpg", "obj_valid_data/c.jpg")
    assert labels(load_dataset(tmp_path)) == {
        ("train", "obj_train_data/a.jpg"): "dog",
        ("train", "obj_train_data/sub/b.jpg"): "",
        ("val", "obj_valid_data/c.jpg"): "person",
    }


def test_class_numbers_written_as_floats_and_key_points(coco8, write, labels):
    write(coco8 / "labels/train/a.txt", f"2.0 {BOX} 0.1 0.2 2\n")
    assert labels(load_dataset(coco8))["train", "images/train/a.jpg"] == "traffic light"


# ---- bad input ----


def message(data, **options):
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))
    return str(error.value)


@pytest.mark.parametrize("number", ["3", "-1", "80"])
def test_an_unknown_class_number(coco8, write, number):
    path = write(coco8 / "labels/train/b.txt", f"0 {BOX}\n{number} {BOX}\n")
    assert message(coco8) == (f"an unknown class number\n  where: {path}:2\n  got: {number}\n  expected: 0 to 2, for 3 class names")


@pytest.mark.parametrize(
    "line", ["dog 0.5 0.5 0.1 0.1", "0", "0 0.5 0.5 0.1", "0.5 0.5 0.5 0.1 0.1", "nan 0 0 0 0", "0,0.5,0.5,0.1,0.1"]
)
def test_a_line_that_cannot_be_read(coco8, write, line):
    path = write(coco8 / "labels/val/c.txt", f"\n{line}\n")
    assert message(coco8) == (
        f"a line of a YOLO label file cannot be read\n  where: {path}:2\n  got: '{line}'\n"
        "  expected: a class number and a box (x y width height) or a polygon, in numbers"
    )


def test_a_folder_of_images_that_is_not_there(coco8, write):
    path = write(coco8 / "data.yaml", "train: images/train\nval: images/none\nnames: [a, b, c]\n")
    assert message(coco8) == (
        f"the images of split 'val' do not exist\n  where: {path}\n  got: 'images/none'\n"
        f"  expected: a folder or a list, relative to {coco8}\n  next: correct 'val' or 'path' in data.yaml"
    )


def test_a_listed_image_that_does_not_exist(coco8, write):
    write(coco8 / "data.yaml", "train: images/train\nval: val.txt\nnames: [a, b, c]\n")
    path = write(coco8 / "val.txt", "images/val/c.jpg\nimages/val/z.jpg\n")
    assert message(coco8) == (
        f"a listed image does not exist\n  where: {path}:2\n  got: 'images/val/z.jpg'\n  expected: an image in {coco8}\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


def test_an_image_listed_twice(coco8, write):
    write(coco8 / "data.yaml", "train: images/train\nval: val.txt\nnames: [a, b, c]\n")
    path = write(coco8 / "val.txt", "images/val/c.jpg\n./images/val/c.jpg\n")
    assert message(coco8) == (
        f"an image is listed twice\n  where: {path}:2\n  got: '{coco8}/images/val/c.jpg'\n  expected: every image once"
    )


def test_malformed_yaml(coco8, write):
    path = write(coco8 / "data.yaml", "train: images/train\nnames: [a, b\nval: c\n")
    assert message(path) == (f"malformed YAML\n  where: {path}:3\n  got: expected ',' or ']', but got ':'\n  expected: YAML")


@pytest.mark.parametrize(
    ("names", "got"), [("3", "'3'"), ("[]", "[]"), ("{0: a, 2: b}", "{'0': 'a', '2': 'b'}"), ("[a, [b]]", "['a', ['b']]")]
)
def test_names_that_cannot_be_read(coco8, write, names, got):
    path = write(coco8 / "data.yaml", f"train: images/train\nval: images/val\nnames: {names}\n")
    assert message(path) == (
        f"the yaml's class names cannot be read\n  where: {path}\n  got: names: {got}\n"
        "  expected: a list of names, or a name for each number from 0"
    )


def test_a_wrong_number_of_classes(coco8, write):
    path = write(coco8 / "data.yaml", "train: images/train\nval: images/val\nnc: 4\nnames: [a, b, c]\n")
    assert message(path) == f"the yaml's number of classes is wrong\n  where: {path}\n  got: nc: 4\n  expected: 3, as in names"


def test_no_label_file_at_all(coco8):
    for path in list(coco8.glob("labels/*/*.txt")):
        path.unlink()
    assert message(coco8) == (
        f"no YOLO label file was found\n  where: {coco8}\n  got: 4 images, none with labels\n"
        "  expected: labels/NAME.txt for images/NAME.jpg, or NAME.txt next to NAME.jpg"
    )


def test_two_yaml_files(coco8, write):
    write(coco8 / "other.yaml", ULTRALYTICS)
    assert message(coco8) == (
        f"several YOLO yaml files in one folder\n  where: {coco8}\n  got: data.yaml, other.yaml\n  expected: one\n"
        f"  next: give the file itself, such as {coco8}/data.yaml"
    )


def test_no_names_anywhere(tmp_path):
    assert message(tmp_path, format="yolo") == (
        f"no YOLO class names\n  where: {tmp_path}\n  got: no yaml with names, no classes.txt and no obj.names\n"
        "  expected: one of them\n  next: write the names into classes.txt, one per line, in the order of their numbers"
    )


def test_an_empty_names_file(tmp_path, write):
    path = write(tmp_path / "obj.names", "\n")
    assert message(tmp_path) == f"no YOLO class names\n  where: {path}\n  got: an empty file\n  expected: one class name per line"


def test_a_yaml_without_images(tmp_path, write):
    path = write(tmp_path / "data.yaml", "names: [a]\n")
    assert message(path) == (
        f"the yaml names no images\n  where: {path}\n  got: neither train, val nor test\n  expected: train and val"
    )


def test_a_class_name_given_twice(coco8, write):
    path = write(coco8 / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog, cat]\n")
    assert message(path) == f"a class name is given twice\n  where: {path}\n  got: 'cat'\n  expected: every class once"


# ---- as other tools write it ----


def yolo_folder(tmp_path, write, add_images, **objects: str):
    """Images in images/train and images/val, each with a label file; `train_a="0"` is an object of class 0 in the image a."""
    for name, number in objects.items():
        split, _, stem = name.partition("_")
        add_images(tmp_path / "images" / split, f"{stem}.jpg")
        write(tmp_path / "labels" / split / f"{stem}.txt", f"{number} {BOX}\n" if number else "")


@pytest.mark.parametrize(
    "yaml",
    ["Train: images/train\nValidation: images/val\n", "", "path: C:\\data\ntrain: images\\train\nval: D:\\set\\images\\val\n",
     "path: /mnt/elsewhere/set\ntrain: /mnt/elsewhere/set/images/train\nval: [/mnt/elsewhere/set/images/val]\ntest:\n",
     "path: .\ntrain: train.txt\nval: val.txt\n"],
)  # fmt: skip
def test_how_a_yaml_may_name_its_images(tmp_path, write, add_images, labels, yaml):
    yolo_folder(tmp_path, write, add_images, train_a="0", train_b="", val_c="1")
    write(tmp_path / "train.txt", "data/images/train/a.jpg\n/content/set/images/train/b.jpg\n")
    write(tmp_path / "val.txt", "C:\\set\\images\\val\\c.jpg\n")
    write(tmp_path / "data.yaml", yaml + "names: [yes, no]\nnc: 2\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {
        ("train", "images/train/a.jpg"): "yes",
        ("train", "images/train/b.jpg"): "",
        ("val", "images/val/c.jpg"): "no",
    }
    assert dataset.label_set.names == ("yes", "no")


def test_names_are_text_as_written(tmp_path, write, add_images):
    yolo_folder(tmp_path, write, add_images, train_a="0", val_b="1")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: {0: 1.0, 1: null, 2: 010, 3: 'off'}\n")
    assert load_dataset(tmp_path).label_set.names == ("1.0", "null", "010", "off")


@pytest.mark.parametrize(
    ("yaml", "splits"),
    [
        ("train: images/train\nval: /elsewhere/images/train\n", ("",)),  # PyLabel names one folder twice
        ("train: images/train\nval: images/train\ntest: images/test\n", ("", "test")),
        ("train: images/train\nval: images/val\ntest: images/train\n", ("train", "val", "test")),
        ("train: images/train\n", ("",)),  # FiftyOne exports what has no split as train
    ],
)
def test_splits_that_divide_nothing_are_none(tmp_path, write, add_images, yaml, splits):
    names = [name for name in ("train_a", "train_b", "val_d", "test_c") if f"images/{name.partition('_')[0]}" in yaml]
    yolo_folder(tmp_path, write, add_images, **{name: str(number % 2) for number, name in enumerate(names)})
    write(tmp_path / "data.yaml", yaml + "names: [cat, dog]\n")
    dataset = load_dataset(tmp_path)
    assert dataset.splits == splits
    assert any("have no split" in note for note in dataset.interpretation.notes) == ("" in splits)


@pytest.mark.parametrize(("images", "label"), [("IMAGES", "LABELS/a.txt"), ("Images", "labels/a.TXT"), ("x", "x/a.TXT")])
def test_label_files_in_capitals(tmp_path, write, add_images, labels, images, label):
    add_images(tmp_path / images, "a.jpg")
    write(tmp_path / label, f"1 {BOX}\n")
    write(tmp_path / "data.yaml", f"train: {images}\nnames: [cat, dog]\n")
    assert labels(load_dataset(tmp_path)) == {("", f"{images}/a.jpg"): "dog"}


def test_an_empty_line_would_shift_the_numbers_of_the_names(tmp_path, write, add_images):
    yolo_folder(tmp_path, write, add_images, train_a="0", train_b="1")
    write(tmp_path / "classes.txt", "cat\n\ndog\n\n")
    assert message(tmp_path) == (
        f"an empty line among the class names\n  where: {tmp_path / 'classes.txt'}:2\n  got: 3 lines\n"
        "  expected: a name in every line, because the line is the number of the class\n"
        "  next: remove the line, if the classes were numbered without it; or write a name for its number into it"
    )
    write(tmp_path / "classes.txt", "cat\ndog\n\n")
    assert load_dataset(tmp_path).label_set.names == ("cat", "dog")


@pytest.mark.parametrize(("train", "val"), [("images/train", "images/val"), ("train/images", "valid/images")])
def test_a_split_that_the_yaml_forgets_is_found_beside_train(tmp_path, write, add_images, train, val):
    add_images(tmp_path, f"{train}/a.jpg", f"{val}/b.jpg")
    for place, number in ((train, 0), (val, 1)):
        write(tmp_path / place.replace("images", "labels") / f"{'ab'[number]}.txt", f"{number} {BOX}\n")
    write(tmp_path / "data.yaml", f"TRAIN: {train}\nNames: [cat, dog]\nNC: 2\n")
    dataset = load_dataset(tmp_path)
    assert dataset.split_N == ("train", "val")
    assert dataset.interpretation.notes == (
        f"data.yaml does not name the images of val: those in {val.removeprefix('images/')} are taken",
    )


def test_cvat_writes_subsets_of_any_name_as_keys(tmp_path, write, add_images, labels):
    yolo_folder(tmp_path, write, add_images, Train_a="0", Night_b="1")
    write(tmp_path / "data.yaml", "Train: Train.txt\nNight: Night.txt\nnames: {0: cat, 1: dog}\npath: .\n")
    for split, name in (("Train", "a"), ("Night", "b")):
        write(tmp_path / f"{split}.txt", f"data/images/{split}/{name}.jpg\n")
    assert labels(load_dataset(tmp_path)) == {("train", "images/Train/a.jpg"): "cat", ("Night", "images/Night/b.jpg"): "dog"}
    write(tmp_path / "data.yaml", "default: Train.txt\nnames: {0: cat, 1: dog}\npath: .\n")
    assert labels(load_dataset(tmp_path)) == {("", "images/Train/a.jpg"): "cat"}


def test_label_studio_puts_notes_beside_yolo(tmp_path, write, add_images, labels):
    write(
        tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2026, "contributor": "Label Studio"}}'
    )
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "labels/0a1b-a.txt", f"0 {BOX}\n")
    add_images(tmp_path / "images", "0a1b-a.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "images/0a1b-a.jpg"): "cat"}


def test_files_without_any_object_are_asked_about(tmp_path, write, add_images):
    yolo_folder(tmp_path, write, add_images, train_a="", val_b="")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    assert message(tmp_path) == (
        f"no label file names an object\n  where: {tmp_path}\n  got: 2 images, all without objects\n"
        "  expected: a line for each object\n"
        "  next: YOLO files hold boxes only: export labels of whole images as another format, such as VOC, COCO or CSV; "
        "or accept images that show nothing with --yes"
    )
    assert len(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))) == 2


def test_a_split_without_label_files_is_asked_about_and_a_test_split_is_left_out(tmp_path, write, add_images):
    yolo_folder(tmp_path, write, add_images, train_a="0", val_b="1")
    add_images(tmp_path, "images/test/c.jpg", "images/train/d.jpg")
    write(tmp_path / "labels/train/gone.txt", f"0 {BOX}\n")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n")
    assert load_dataset(tmp_path).interpretation.notes == (
        "left out, because no image of it has a label file: split 'test', images: 1",
        "images without a label file show nothing: d.jpg",
        "label files without a listed image are left out: gone.txt",
    )
    (tmp_path / "labels/val/b.txt").unlink()
    assert message(tmp_path) == (
        f"no image of split 'val' has a label file\n  where: {tmp_path}\n  got: 1 images, such as {tmp_path}/images/val/b.jpg\n"
        "  expected: labels/NAME.txt for images/NAME.jpg, or NAME.txt next to NAME.jpg\n"
        "  next: put the label files there; or accept images that show nothing with --yes"
    )


def test_label_files_without_names_say_what_is_missing(tmp_path, write, add_images):
    yolo_folder(tmp_path, write, add_images, train_a="0", val_b="1")
    assert recognise(tmp_path) == "yolo"
    assert "write the names into classes.txt" in message(tmp_path)


def test_lists_of_images_beside_class_names_are_no_yolo(tmp_path, write, add_images):
    add_images(tmp_path, "images/a.jpg")
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "train.txt", "images/a.jpg 0\n")
    assert recognise(tmp_path) == "text"
