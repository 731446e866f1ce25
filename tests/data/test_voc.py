"""VOC: class lists as the devkit has them, and XML as LabelImg and Roboflow write it."""

import re

import numpy as np
import pytest

from polytag.contracts import PRESENT, UNKNOWN
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.recognise import recognise
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.voc import is_voc, read_voc
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, DataError

LABELIMG = """<annotation>
	<folder>images</folder>
	<filename>{name}</filename>
	<path>C:\\Users\\someone\\images\\{name}</path>
	<source>
		<database>Unknown</database>
	</source>
	<size>
		<width>640</width>
		<height>480</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>{objects}
</annotation>
"""
OBJECT = """
	<object>
		<name>{name}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>{difficult}</difficult>
		<bndbox>
			<xmin>10</xmin>
			<ymin>20</ymin>
			<xmax>110</xmax>
			<ymax>220</ymax>
		</bndbox>
	</object>"""


def labelimg(name, *objects):
    """An XML file as LabelImg 1.8 writes it; a class after "?" is difficult."""
    text = "".join(OBJECT.format(name=item.lstrip("?"), difficult=int(item.startswith("?"))) for item in objects)
    return LABELIMG.format(name=name, objects=text)


@pytest.fixture
def devkit(tmp_path, write, add_images):
    """VOC2007's Main folder in small: two spaces before a 1, CRLF in one file, a class called like a split, lists for people."""
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    main = folder / "ImageSets" / "Main"
    lists = {
        "cat": {"train": "000012 -1\n000017  1\n", "val": "000023  0\n", "test": "000001  1\n"},
        "train": {"train": "000012  1\r\n000017  0\r\n", "val": "000023 -1\r\n", "test": "000001 -1\r\n"},
        "traffic_light": {"train": "000012 -1\n000017 -1\n", "val": "000023  1\n", "test": "000001 -1\n"},
    }
    for name, splits in lists.items():
        for split, text in splits.items():
            write(main / f"{name}_{split}.txt", text)
        write(main / f"{name}_trainval.txt", splits["train"] + splits["val"])
    write(main / "train.txt", "000012\n000017\n")
    write(main / "val.txt", "000023\n")
    write(main / "trainval.txt", "000012\n000017\n000023\n")
    write(main / "trainvalP.txt", "000012\n")
    write(main / "test.txt", "000001\n")
    add_images(folder / "JPEGImages", "000012.jpg", "000017.JPG", "000023.png", "000001.jpeg", "not-listed.jpg")
    return folder


@pytest.mark.parametrize("where", ["VOC2007", "VOCdevkit", "above"])
def test_the_devkit_is_read_from_its_year_from_its_root_and_from_above(devkit, labels, where):
    data = {"VOC2007": devkit, "VOCdevkit": devkit.parent, "above": devkit.parent.parent}[where]
    assert recognise(data) == "voc"
    dataset = load_dataset(data)
    assert labels(dataset) == {
        ("train", "000012"): "train",
        ("train", "000017"): "cat ?train",
        ("val", "000023"): "?cat traffic_light",
        ("test", "000001"): "cat",
    }
    assert dataset.label_set.names == ("cat", "traffic_light", "train")
    assert [path.name for path in dataset.paths] == ["000012.jpg", "000017.JPG", "000023.png", "000001.jpeg"]
    assert all(path.is_absolute() and path.is_file() for path in dataset.paths)


@pytest.mark.parametrize(("difficult", "value"), [("ignore", -1), ("positive", 1), ("negative", 0)])
def test_difficult_only_is_what_the_option_says(devkit, difficult, value):
    dataset = load_dataset(devkit, options=ReadOptions(difficult=difficult))
    assert dataset.target_NC.tolist() == [[0, 0, 1], [1, 0, value], [value, 1, 0], [1, 0, 0]]


def test_an_image_that_a_class_leaves_out_is_unknown_for_it(devkit, labels, write):
    write(devkit / "ImageSets/Main/cat_train.txt", "000017 1\n")
    assert labels(load_dataset(devkit))["train", "000012"] == "?cat train"


@pytest.mark.parametrize(("kept", "splits"), [(("trainval",), ("",)), (("trainval", "test"), ("trainval", "test"))])
def test_trainval_alone_is_data_without_a_split(devkit, kept, splits):
    for path in (devkit / "ImageSets/Main").iterdir():
        if path.stem.rpartition("_")[2] not in kept:
            path.unlink()
    assert load_dataset(devkit).splits == splits


def test_real_photographs_have_the_counts_of_their_readme(real_voc):
    """The table in voc-mini's README.txt: positive and difficult-only images of each class in train and in val."""
    dataset = load_dataset(real_voc)
    text = (real_voc.parent / "README.txt").read_text()
    table = re.findall(r"^(\w+) +(\d+) / +(\d+) +(\d+) / +(\d+)$", text, re.MULTILINE)
    assert [row[0] for row in table] == list(dataset.label_set)
    assert len(table) == 20
    for s, split in enumerate(("train", "val")):
        part = dataset.split(split)
        assert len(part) == 874
        assert (part.target_NC == PRESENT).sum(axis=0).tolist() == [int(row[1 + 2 * s]) for row in table]
        assert (part.target_NC == UNKNOWN).sum(axis=0).tolist() == [int(row[2 + 2 * s]) for row in table]


def test_real_xml_agrees_with_the_real_lists(real_voc, tmp_path):
    """voc-mini's XML files hold the objects that are not difficult: read without the lists, they give the same positives."""
    devkit = real_voc / "VOC2012"
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).symlink_to((devkit / name).resolve())
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split in ("train", "val"):
        (main / f"{split}.txt").write_text((devkit / "ImageSets/Main" / f"{split}.txt").read_text())
    by_lists, by_xml = load_dataset(real_voc), load_dataset(tmp_path)
    assert by_xml.ids == by_lists.ids
    assert by_xml.split_N == by_lists.split_N
    assert by_xml.label_set == by_lists.label_set
    assert ((by_xml.target_NC == PRESENT) == (by_lists.target_NC == PRESENT)).all()


# ---- XML ----


@pytest.mark.parametrize(
    ("xml_folder", "image_folder"),
    [("Annotations", "JPEGImages"), ("annotations", "images"), (".", "."), ("Annotations", "Images")],
)
def test_labelimg_files_without_lists(tmp_path, write, add_images, labels, xml_folder, image_folder):
    for name, objects in {"a": ["cat", "dog", "cat"], "b": ["?dog"], "c": ["dog", "?dog"], "d": [], "e f": ["sea lion"]}.items():
        write(tmp_path / xml_folder / f"{name}.xml", labelimg(f"{name}.jpg", *objects))
    add_images(tmp_path / image_folder, "a.jpg", "b.PNG", "c.webp", "d.jpg", "e f.jpg", "never-annotated.jpg")
    assert recognise(tmp_path) == "voc"
    assert labels(load_dataset(tmp_path)) == {
        ("", "a"): "cat dog",
        ("", "b"): "?dog",
        ("", "c"): "dog",
        ("", "d"): "",
        ("", "e f"): "sea lion",
    }


@pytest.mark.parametrize("place", ["ImageSets/Main", "ImageSets", "."])
@pytest.mark.parametrize("line", ["{}\n", "./images/{0}.jpg ./Annotations/{0}.xml\n"])  # the latter is PaddleDetection's
def test_the_splits_of_xml_come_from_lists_wherever_people_put_them(tmp_path, write, add_images, labels, place, line):
    voc_folder(tmp_path, write, add_images, dict.fromkeys("abcd", ("cat",)), images="images")
    for split, names in (("train", "ba"), ("val", "c"), ("trainval", "abc")):
        write(tmp_path / place / f"{split}.txt", "".join(map(line.format, names)))
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "b"): "cat", ("train", "a"): "cat", ("val", "c"): "cat"}
    assert dataset.interpretation.notes == ("left out, in no list of a split: d.xml",)


def test_roboflow_writes_xml_beside_the_images_of_each_split(tmp_path, write, add_images, labels):
    for split, name in (("train", "a_jpg.rf.1f"), ("valid", "b_jpg.rf.2e"), ("test", "c_jpg.rf.3d")):
        write(tmp_path / split / f"{name}.xml", labelimg(f"{name}.jpg", "helmet"))
        add_images(tmp_path / split, f"{name}.jpg")
    assert set(labels(load_dataset(tmp_path))) == {("train", "a_jpg.rf.1f"), ("val", "b_jpg.rf.2e"), ("test", "c_jpg.rf.3d")}


def test_a_renamed_xml_file_still_finds_its_image_by_the_name_inside(tmp_path, write, add_images):
    write(tmp_path / "Annotations/0001.xml", labelimg("holiday.jpg", "cat"))
    add_images(tmp_path / "JPEGImages", "holiday.jpg")
    assert load_dataset(tmp_path).paths == (tmp_path / "JPEGImages/holiday.jpg",)


def test_xml_in_another_encoding_that_it_declares(tmp_path, add_images):
    (tmp_path / "Annotations").mkdir()
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>\n' + labelimg("a.jpg", "café")
    (tmp_path / "Annotations/a.xml").write_bytes(text.encode("latin-1"))
    add_images(tmp_path / "JPEGImages", "a.jpg")
    assert load_dataset(tmp_path).label_set.names == ("café",)


# ---- bad input ----


def message(data, **options):
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))
    return str(error.value)


def test_a_list_naming_an_image_that_does_not_exist(devkit):
    (devkit / "JPEGImages/000023.png").unlink()
    assert message(devkit) == (
        "a listed image does not exist\n"
        f"  where: {devkit}/ImageSets/Main/val.txt:1\n"
        "  got: '000023'\n"
        f"  expected: an image in {devkit}/JPEGImages\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


@pytest.mark.parametrize("label", ["2", "+1", "1.0", "x"])
def test_a_label_outside(devkit, write, label):
    path = write(devkit / "ImageSets/Main/cat_val.txt", f"\n000023 {label}\n")
    assert message(devkit) == (
        f"a label outside 1, 0, -1\n  where: {path}:2\n  got: '{label}'\n"
        "  expected: 1 (present), -1 (absent) or 0 (only difficult objects)"
    )


def test_a_line_without_a_label(devkit, write):
    path = write(devkit / "ImageSets/Main/cat_train.txt", "000012 -1\n000017\n")
    assert message(devkit) == (
        f"a line of a VOC list cannot be read\n  where: {path}:2\n  got: '000017'\n  expected: an image id and 1, 0 or -1"
    )


@pytest.mark.parametrize("name", ["cat_train.txt", "train.txt"])
def test_an_id_listed_twice(devkit, write, name):
    label = " 1" if "_" in name else ""
    path = write(devkit / "ImageSets/Main" / name, f"000012{label}\n000017{label}\n000012{label}\n")
    assert message(devkit) == (
        f"an image id is listed twice\n  where: {path}:3\n  got: '000012'\n  expected: every id once\n"
        "  next: remove one of the lines"
    )


def test_a_class_without_a_list_for_one_split(devkit):
    (devkit / "ImageSets/Main/cat_val.txt").unlink()
    assert message(devkit) == (
        f"a class has no list for one of the splits\n  where: {devkit}/ImageSets/Main\n  got: no cat_val.txt\n"
        "  expected: a list of class 'cat' for every split"
    )


def test_two_years(devkit, write):
    write(devkit.parent / "VOC2012/ImageSets/Main/cat_train.txt", "1 1\n")
    assert message(devkit.parent) == (
        f"several years of VOC in one folder\n  where: {devkit.parent}\n  got: VOC2007, VOC2012\n  expected: one\n"
        f"  next: give the year's own folder, such as {devkit.parent}/VOC2012"
    )


def test_two_images_of_one_id(devkit, add_images):
    add_images(devkit / "JPEGImages", "000012.png")
    assert message(devkit) == (
        f"one id fits two images\n  where: {devkit}/JPEGImages\n  got: 000012.jpg, 000012.png\n"
        "  expected: one image for the id '000012'\n  next: remove or rename one of them"
    )


def test_a_list_that_is_not_utf8(devkit):
    path = devkit / "ImageSets/Main/cat_train.txt"
    path.write_bytes(b"000012 -1\ncaf\xe9 1\n")
    assert message(devkit) == (
        f"the file is not UTF-8 text\n  where: {path}:2\n  got: byte 0xe9\n  expected: UTF-8\n"
        "  next: save it as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8 cat_train.txt`"
    )


@pytest.fixture
def xml(tmp_path, add_images, write):
    add_images(tmp_path / "JPEGImages", "a.jpg")
    return lambda text: write(tmp_path / "Annotations/a.xml", text)


def test_malformed_xml(tmp_path, xml):
    path = xml("<annotation>\n<object>\n</annotation>")
    assert message(tmp_path) == (
        f"malformed XML\n  where: {path}:3\n  got: mismatched tag, at column 3\n  expected: a VOC annotation"
    )


def test_an_empty_xml_file(tmp_path, xml):
    path = xml("")
    assert message(tmp_path) == (
        f"malformed XML\n  where: {path}:1\n  got: no element found, at column 1\n  expected: a VOC annotation"
    )


def test_xml_of_another_kind(tmp_path, xml):
    path = xml("<svg/>")
    assert message(tmp_path) == f"not a VOC annotation\n  where: {path}:1\n  got: <svg>\n  expected: <annotation>"


def test_a_billion_laughs_are_refused(tmp_path, xml):
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    xml(f'<!DOCTYPE a [<!ENTITY l0 "{"ha" * 1000}">{entities}]><annotation><object><name>&l9;</name></object></annotation>')
    assert message(tmp_path).startswith("malformed XML\n")


def test_an_object_without_a_name(tmp_path, xml):
    path = xml(labelimg("a.jpg", "cat", ""))
    assert message(tmp_path) == (
        f"an object without a class name\n  where: {path}\n  got: object 2\n  expected: a <name> in every <object>"
    )


def test_a_difficult_flag_that_is_neither(tmp_path, xml):
    path = xml(labelimg("a.jpg", "cat").replace("<difficult>0", "<difficult>maybe"))
    assert message(tmp_path) == (
        f"a difficult flag outside 0 and 1\n  where: {path}\n  got: 'maybe' in object 1\n  expected: 0 or 1"
    )


def test_a_listed_image_without_xml(tmp_path, xml, write):
    xml(labelimg("a.jpg", "cat"))
    path = write(tmp_path / "ImageSets/Main/train.txt", "a\nb\n")
    assert message(tmp_path) == (
        f"a listed image has no annotation\n  where: {path}:2\n  got: no b.xml\n  expected: an XML file in {tmp_path}/Annotations"
    )


def test_xml_without_its_image(tmp_path, xml):
    path = xml(labelimg("a.jpg", "cat"))
    (tmp_path / "JPEGImages/a.jpg").unlink()
    assert message(tmp_path) == (
        "a listed image does not exist\n"
        f"  where: {path}\n"
        "  got: 'a.jpg'\n"
        f"  expected: an image in {tmp_path}/JPEGImages or {tmp_path}/Annotations\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


def test_xml_without_any_object(tmp_path, xml):
    xml(labelimg("a.jpg"))
    assert message(tmp_path) == (
        f"no class was found\n  where: {tmp_path}\n  got: annotations without a single label\n  expected: at least one label"
    )


def test_a_folder_without_any_voc_annotation(tmp_path):
    assert message(tmp_path, format="voc") == (
        "no VOC annotations\n"
        f"  where: {tmp_path}\n"
        "  got: no file such as ImageSets/Main/cat_train.txt, and no XML file in Annotations\n"
        "  expected: VOC's class lists, or XML annotations"
    )


def test_errors_of_annotations_are_annotation_errors(devkit, write):
    write(devkit / "ImageSets/Main/cat_train.txt", "nonsense\n")
    with pytest.raises(AnnotationError):
        read_voc(devkit, difficult="ignore", context=ReadingContext(index=FileIndex(), log=ReadingLog()))


@pytest.mark.slow
def test_a_devkit_of_17_000_images_is_read_in_seconds(tmp_path):
    """VOC 2012's size; the bound is ten times what a slow machine needs."""
    import time

    main, images = tmp_path / "ImageSets/Main", tmp_path / "JPEGImages"
    main.mkdir(parents=True)
    images.mkdir()
    names = [f"2012_{number:06d}" for number in range(17_000)]
    for name in names:
        (images / f"{name}.jpg").touch()
    for c in range(20):
        for split, part in (("train", names[:8500]), ("val", names[8500:])):
            (main / f"class{c:02d}_{split}.txt").write_text(
                "".join(f"{name} {-1 + 2 * (i % 20 == c)}\n" for i, name in enumerate(part))
            )
    started = time.process_time()
    dataset = load_dataset(tmp_path)
    assert time.process_time() - started < 10
    assert (dataset.target_NC == PRESENT).sum() == 17_000
    assert np.array_equal(dataset.target_NC[:20], np.eye(20))


# ---- as other tools write it ----


def voc_folder(tmp_path, write, add_images, files: dict[str, tuple[str, ...]], *, images="JPEGImages", xml="Annotations"):
    for id, objects in files.items():
        write(tmp_path / xml / f"{id}.xml", labelimg("elsewhere.jpg", *objects))
        add_images(tmp_path / images, f"{id}.jpg")


def test_ids_with_spaces_and_brackets_are_whole(tmp_path, write, add_images, labels):
    """`photo (1)` is not `photo`."""
    files = {"photo": ("cat",), "photo (1)": ("dog",), "WhatsApp Image 2023 at 10.11 (1)": ("dog",)}
    voc_folder(tmp_path, write, add_images, files)
    write(tmp_path / "ImageSets/Main/train.txt", "photo\n")
    write(tmp_path / "ImageSets/Main/val.txt", "photo (1)\nWhatsApp Image 2023 at 10.11 (1)\n")
    dataset = load_dataset(tmp_path)
    assert list(labels(dataset)) == [("train", "photo"), ("val", "photo (1)"), ("val", "WhatsApp Image 2023 at 10.11 (1)")]
    assert [path.stem for path in dataset.paths] == list(dataset.ids)
    assert list(labels(dataset).values()) == ["cat", "dog", "dog"]


def test_class_lists_with_spaces(tmp_path, write, add_images, labels):
    write(tmp_path / "ImageSets/Main/cat_train.txt", "a (1)  1\nb.jpg -1\n")
    add_images(tmp_path / "JPEGImages", "a (1).jpg", "b.jpg")
    assert labels(load_dataset(tmp_path)) == {("train", "a (1)"): "cat", ("train", "b"): ""}


@pytest.mark.parametrize("line", ["{}.jpg", "JPEGImages/{}.jpg", "./data\\JPEGImages\\{}.jpg", "{} 1", "{}"])
def test_lists_with_endings_folders_and_a_one(tmp_path, write, add_images, labels, line):
    voc_folder(tmp_path, write, add_images, {"a": ("cat",), "b": ("dog",)})
    write(tmp_path / "ImageSets/Main/train.txt", line.format("a") + "\n")
    write(tmp_path / "ImageSets/Main/val.txt", line.format("b") + "\r\n")
    assert labels(load_dataset(tmp_path)) == {("train", "a"): "cat", ("val", "b"): "dog"}


def test_cvat_mirrors_folders_and_calls_lists_as_its_subsets(tmp_path, write, add_images, labels):
    voc_folder(tmp_path, write, add_images, {"cam1/0": ("cat",), "cam2/0": ("dog",), "cam2/1": ("dog",)})
    add_images(tmp_path / "JPEGImages", "cam1/empty.jpg")
    write(
        tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nzebra:1,2,3::\ndog:4,5,6::\ncat:7,8,9::\n"
    )
    write(tmp_path / "ImageSets/Main/Train.txt", "cam1/0\ncam1/empty\n")
    write(tmp_path / "ImageSets/Main/Validation.txt", "cam2/0\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "cam1/0"): "cat", ("train", "cam1/empty"): "", ("val", "cam2/0"): "dog"}
    assert dataset.label_set.names == ("zebra", "dog", "cat")
    assert dataset.interpretation.notes == (
        "listed images without an XML file show nothing, as datumaro and CVAT write it",
        "left out, in no list of a split: cam2/1.xml",
    )


def test_the_list_default_is_no_split(tmp_path, write, add_images, labels):
    voc_folder(tmp_path, write, add_images, {"a": ("cat",), "b": ("dog",)})
    write(tmp_path / "ImageSets/Main/default.txt", "a\nb\n")
    assert labels(load_dataset(tmp_path)) == {("", "a"): "cat", ("", "b"): "dog"}


@pytest.mark.parametrize(
    ("images", "xml"),
    [
        ("data", "labels"),
        ("train/images", "train/annotations"),
        ("images/train", "annotations/train"),
        ("train", "Annotations/train"),
    ],
)
def test_xml_and_images_in_the_folders_of_other_tools(tmp_path, write, add_images, labels, images, xml):
    voc_folder(tmp_path, write, add_images, {"a": ("cat",), "b": ("dog",)}, images=images, xml=xml)
    split = "" if images == "data" else "train"
    assert recognise(tmp_path) == "voc"
    assert labels(load_dataset(tmp_path)) == {(split, "a"): "cat", (split, "b"): "dog"}


def test_pets_have_masks_of_the_same_names_beside_their_xml(tmp_path, write, add_images, labels):
    write(tmp_path / "annotations/xmls/a.xml", labelimg("a.jpg", "cat"))
    add_images(tmp_path, "annotations/trimaps/a.png", "images/a.jpg")
    assert load_dataset(tmp_path).paths == (tmp_path / "images/a.jpg",)


def test_datumaro_writes_labels_in_lists_and_objects_in_xml(tmp_path, write, add_images, labels):
    main = tmp_path / "ImageSets/Main"
    write(tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:::\ncat:::\ndog:::\n")
    for name, values in {"background": "-1", "cat": " 1", "dog": "-1"}.items():
        write(main / f"{name}_train.txt", f"a {values}\n")
    write(main / "train.txt", "a\nb\nc\n")
    write(tmp_path / "Annotations/a.xml", labelimg("a.jpg", "dog"))
    write(tmp_path / "Annotations/b.xml", labelimg("b.jpg", "dog"))
    add_images(tmp_path / "JPEGImages", "a.jpg", "b.jpg", "c.jpg")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a"): "cat dog", ("train", "b"): "dog", ("train", "c"): ""}
    assert dataset.label_set.names == ("cat", "dog")


@pytest.mark.parametrize("text", ["<annotations><version>1.1</version></annotations>", "<annotation><object><deleted>0</deleted>"])
def test_xml_of_cvat_and_of_labelme_is_not_vocs(tmp_path, write, text):
    write(tmp_path / "annotations.xml", text)
    assert not is_voc(tmp_path)
