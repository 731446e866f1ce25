"""CelebA, NUS-WIDE, ChestX-ray14 and Open Images in their own files: labels, splits, what is told, and what is refused."""

from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset
from polytag.data.formats.recognise import recognise
from polytag.errors import DataError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"

CELEBA = "3\ncat dog \na.jpg -1  1\nb.jpg  1  1\nc.jpg -1 -1\n"
NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
    "OriginalImagePixelSpacing[x,y],\n"
    "a.png,Cardiomegaly|Mass,0,1,58,M,PA,2682,2749,0.143,0.143,\nb.png,No Finding,1,1,58,M,PA,2682,2749,0.143,0.143,\n"
    "c.png,Mass,0,2,58,M,PA,2682,2749,0.143,0.143,\n"
)
HUMAN = "ImageID,Source,LabelName,Confidence\na,verification,/m/0c,1\na,verification,/m/0d,0\nb,verification,/m/0d,1\n"


def refused(data: Path, **options: object) -> str:
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))  # pyright: ignore[reportArgumentType]
    return str(error.value)


# ---- CelebA ----


@pytest.mark.parametrize("places", [("", ""), ("Anno", "Eval")])
def test_celebas_minus_one_is_absent(tmp_path, write, add_images, labels, places):
    add_images(tmp_path / "img_align_celeba", "a.jpg", "b.jpg", "c.jpg")
    path = write(tmp_path / places[0] / "list_attr_celeba.txt", CELEBA)
    expected = {"a.jpg": "dog", "b.jpg": "cat dog", "c.jpg": ""}
    assert labels(load_dataset(tmp_path)) == {("", name): text for name, text in expected.items()}
    write(tmp_path / places[1] / "list_eval_partition.txt", "a.jpg 0\nb.jpg 1\nc.jpg 2\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {
        (split, name): expected[name] for split, name in zip(("train", "val", "test"), expected, strict=True)
    }
    assert dataset.label_set.names == ("cat", "dog")
    assert dict(dataset.interpretation.found)["labels"] == "list_attr_celeba.txt: 1 is present and -1 absent, as CelebA has it"
    assert recognise(path) == "celeba"
    assert len(load_dataset(path)) == 3


def test_celeba_as_kaggle_has_it(tmp_path, write, add_images, labels):
    add_images(tmp_path / "img_align_celeba/img_align_celeba", "a.jpg", "b.jpg")
    write(tmp_path / "list_attr_celeba.csv", "image_id,cat,dog\na.jpg,-1,1\nb.jpg,1,-1\n")
    write(tmp_path / "list_eval_partition.csv", "image_id,partition\na.jpg,0\nb.jpg,2\n")
    write(tmp_path / "list_bbox_celeba.csv", "image_id,x_1\na.jpg,1\n")
    assert labels(load_dataset(tmp_path)) == {("train", "a.jpg"): "dog", ("test", "b.jpg"): "cat"}
    write(tmp_path / "list_attr_celeba.csv", "image_id,cat,dog\na.jpg,0,1\nb.jpg,1,0\n")
    assert labels(load_dataset(tmp_path)) == {("train", "a.jpg"): "dog", ("test", "b.jpg"): "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            CELEBA.replace("-1 -1", "-1 0"),
            "an attribute that is neither present nor absent\n  where: PATH:5\n  got: '0' for 'dog'\n"
            "  expected: 1 (present) or -1 (absent)",
        ),
        (
            CELEBA.replace("-1 -1", "-1"),
            "a row does not fit the attributes\n  where: PATH:5\n  got: 1 values\n  expected: 2, as in line 2",
        ),
        (
            CELEBA.replace("3", "4"),
            "the list of attributes is not whole\n  where: PATH:1\n  got: 3 images\n  expected: 4, as its first line says\n"
            "  next: get the whole file again, or correct the number",
        ),
    ],
)
def test_what_celebas_list_refuses(tmp_path, write, add_images, text, message):
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    path = write(tmp_path / "list_attr_celeba.txt", text)
    assert refused(tmp_path) == message.replace("PATH", str(path))


def test_what_celebas_partition_refuses(tmp_path, write, add_images):
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    attributes = write(tmp_path / "list_attr_celeba.txt", CELEBA)
    path = write(tmp_path / "list_eval_partition.txt", "a.jpg 0\nb.jpg 1\n")
    assert refused(tmp_path) == (
        f"an image without a partition\n  where: {attributes}:5\n  got: 'c.jpg'\n  expected: a line in {path}\n"
        "  next: add it there, or move that file away: the data then have no split"
    )
    write(path, "a.jpg 3\n")
    assert refused(tmp_path) == (
        f"a partition that cannot be read\n  where: {path}:1\n  got: a.jpg 3\n"
        "  expected: an image, and 0 (train), 1 (val) or 2 (test)"
    )


# ---- NUS-WIDE ----


@pytest.fixture
def nuswide(tmp_path, write, add_images) -> Path:
    add_images(tmp_path / "Flickr", "actor/0001_1.jpg", "actor/0002_2.jpg", "bird/0003_3.jpg")
    write(tmp_path / "ImageList/TrainImagelist.txt", "actor\\0001_1.jpg\r\nactor\\0002_2.jpg\r\n")
    write(tmp_path / "ImageList/TestImagelist.txt", "bird\\0003_3.jpg\n")
    for name, train, test in (("sky", "1 0", "1"), ("animal", "1 1", "0")):
        write(tmp_path / f"Groundtruth/TrainTestLabels/Labels_{name}_Train.txt", train.replace(" ", "\n") + "\n")
        write(tmp_path / f"Groundtruth/TrainTestLabels/Labels_{name}_Test.txt", test + "\n")
    return tmp_path


def test_nuswide_by_its_lists(nuswide, write, labels):
    expected = {
        ("train", "actor/0001_1.jpg"): "animal sky", ("train", "actor/0002_2.jpg"): "animal", ("test", "bird/0003_3.jpg"): "sky",
    }  # fmt: skip
    assert labels(load_dataset(nuswide)) == expected
    write(nuswide / "ConceptsList/Concepts81.txt", "sky\nanimal\n")
    assert load_dataset(nuswide).label_set.names == ("sky", "animal")
    (nuswide / "Flickr/actor/0002_2.jpg").unlink()
    dataset = load_dataset(nuswide)
    assert len(dataset) == 2
    assert dataset.interpretation.notes == (
        "1 of 3 listed images are not on the disk and are left out, such as 'actor\\\\0002_2.jpg'",
    )


def test_nuswide_by_all_labels(nuswide, write, labels):
    write(nuswide / "ImageList/Imagelist.txt", "actor\\0001_1.jpg\nbird\\0003_3.jpg\n")
    write(nuswide / "Groundtruth/AllLabels/Labels_sky.txt", "1\n0\n")
    for name in ("sky", "animal"):
        for split in ("Train", "Test"):
            (nuswide / f"Groundtruth/TrainTestLabels/Labels_{name}_{split}.txt").unlink()
    (nuswide / "Groundtruth/TrainTestLabels").rmdir()
    assert labels(load_dataset(nuswide)) == {("", "actor/0001_1.jpg"): "sky", ("", "bird/0003_3.jpg"): ""}


def test_what_nuswide_refuses(nuswide, write):
    path = write(nuswide / "Groundtruth/TrainTestLabels/Labels_sky_Train.txt", "1\n")
    assert refused(nuswide) == (
        f"a file of labels does not fit the list of images\n  where: {path}\n  got: 1 lines\n"
        f"  expected: 2, as in {nuswide}/ImageList/TrainImagelist.txt"
    )
    write(path, "1\n2\n")
    assert refused(nuswide) == f"a label outside 0 and 1\n  where: {path}:2\n  got: '2'\n  expected: 0 or 1"
    path.unlink()
    assert refused(nuswide) == (
        f"a concept that only one of the lists has labels for\n  where: {path.parent}\n"
        "  got: labels of 'sky' for one of TrainImagelist.txt, TestImagelist.txt\n  expected: a file of each concept for each list"
    )


# ---- ChestX-ray14 ----


@pytest.fixture
def nih(tmp_path, write, add_images) -> Path:
    add_images(tmp_path, "images_001/images/a.png", "images_001/images/b.png", "images_012/images/c.png")
    write(tmp_path / "Data_Entry_2017.csv", NIH)
    write(tmp_path / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h]\n")
    return tmp_path


def test_nih_with_its_official_lists(nih, write, labels):
    expected = {"a.png": "Cardiomegaly Mass", "b.png": "", "c.png": "Mass"}
    dataset = load_dataset(nih)
    assert labels(dataset) == {("", name): text for name, text in expected.items()}
    assert dataset.label_set.names == ("Cardiomegaly", "Mass")
    write(nih / "train_val_list.txt", "a.png\nb.png\n")
    write(nih / "test_list.txt", "c.png")
    dataset = load_dataset(nih, options=ReadOptions(group_column="Patient ID"))
    assert dataset.split_N == ("train", "train", "test")
    assert dataset.group_N == ("1", "1", "2")
    found = dict(load_dataset(nih).interpretation.found)
    assert found["split"] == "train_val_list.txt is train, test_list.txt is test"
    assert found["labels"] == "column 'Finding Labels', where 'No Finding' means that every class is absent"
    assert found["patients"] == "column 'Patient ID'; the images of one stay in one split with --group 'Patient ID'"


def test_nih_of_which_one_archive_is_there(nih, write):
    write(nih / "test_list.txt", "c.png\n")
    (nih / "images_001/images/b.png").unlink()
    dataset = load_dataset(nih)
    assert dataset.ids == ("a.png", "c.png")
    assert dataset.interpretation.notes == (
        "1 of 3 listed images are not on the disk and are left out, such as 'b.png'",
        "1 of 2 images are without a split, such as 'a.png': they take no part in training and validation",
    )
    for path in nih.rglob("*.png"):
        path.unlink()
    assert refused(nih).startswith(f"none of the listed images exists\n  where: {nih}/Data_Entry_2017.csv:2\n  got: 'a.png'\n")
    assert refused(nih).endswith("next: put the images there, or name their folder with the option image_dirs (--image-dir)")


def test_what_nih_refuses(nih, write):
    path = write(nih / "Data_Entry_2017.csv", NIH.replace("No Finding", "No Finding|Mass"))
    assert refused(nih) == (
        f"'No Finding' beside a finding\n  where: {path}:3\n  got: 'No Finding|Mass'\n"
        "  expected: an image, and its findings divided by '|', or 'No Finding'"
    )
    write(nih / "Data_Entry_2017.csv", NIH)
    write(nih / "train_val_list.txt", "a.png\n")
    write(nih / "test_list.txt", "a.png\n")
    assert refused(nih) == (
        f"an image on two lists\n  where: {nih}/test_list.txt:1\n  got: 'a.png', which is for train already\n"
        "  expected: every image on one list"
    )


# ---- Open Images ----


def test_open_images_absent_is_verified_and_the_rest_unknown(tmp_path, write, add_images, labels):
    add_images(tmp_path, "train/a.jpg", "train/b.jpg", "validation/c.jpg")
    path = write(tmp_path / "oidv7-train-annotations-human-imagelabels.csv", HUMAN + "z,verification,/m/0d,1\n")
    write(
        tmp_path / "validation-annotations-human-imagelabels.csv",
        HUMAN.replace("\na,", "\nc,").replace("\nb,", "\nc,").replace("d,0", "e,0"),
    )
    write(tmp_path / "validation-annotations-machine-imagelabels.csv", "ImageID,Source,LabelName,Confidence\nc,machine,/m/0c,0.6\n")
    write(tmp_path / "oidv7-class-descriptions.csv", "LabelName,DisplayName\n/m/0d,Dog\n/m/0c,Cat\n/m/0x,Unused\n/m/0e,Dog\n")
    dataset = load_dataset(tmp_path)
    assert dataset.label_set.names == ("Dog (/m/0d)", "Cat", "Dog (/m/0e)")
    assert labels(dataset) == {
        ("train", "a"): "Cat ?Dog (/m/0e)", ("train", "b"): "Dog (/m/0d) ?Cat ?Dog (/m/0e)", ("val", "c"): "Dog (/m/0d) Cat",
    }  # fmt: skip
    assert dataset.interpretation.notes == (
        "labels of machines are not read: validation-annotations-machine-imagelabels.csv",
        "1 of 4 listed images are not on the disk and are left out, such as 'z'",
    )
    assert recognise(path) == "openimages"


def test_the_boxes_of_open_images_add_what_is_present(tmp_path, write, add_images, labels):
    add_images(tmp_path / "train/data", "a.jpg", "b.jpg")  # as FiftyOne downloads them
    write(tmp_path / "train/labels/classifications.csv", HUMAN)
    boxes = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nb,xclick,/m/0c,1,0,1,0,1\nb,xclick,/m/0c,1,0,1,0,1\n"
    write(tmp_path / "train/labels/detections.csv", boxes)
    write(tmp_path / "train/metadata/classes.csv", "/m/0c,Cat\n/m/0d,Dog\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a"): "Cat", ("train", "b"): "Cat Dog"}
    assert dataset.interpretation.notes == ()


def test_open_images_without_a_single_absent_label(tmp_path, write, add_images, labels):
    add_images(tmp_path / "images/train", "a.jpg", "b.jpg")
    path = write(tmp_path / "annotations/train-annotations-human-imagelabels.csv", HUMAN.replace("0d,0", "0d,1"))
    assert refused(tmp_path) == (
        f"labels of Open Images none of which is absent\n  where: {path}\n  got: confidences of 1 and boxes only\n"
        "  expected: also rows with confidence 0, from which a class can be learned\n"
        "  next: add the file of image labels with its rows of 0; or take what has no row as absent with --yes"
    )
    expected = {("train", "a"): "/m/0c /m/0d", ("train", "b"): "/m/0d"}
    assert labels(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))) == expected
    add_images(tmp_path / "images/train", "c.jpg")  # as datumaro writes it: no source, and a list of all images
    write(path, "ImageID,Source,LabelName,Confidence\na,,cat,1\nb,,dog,1\n")
    write(tmp_path / "annotations/train-images-with-rotation.csv", "ImageID,Subset\na,train\nb,train\nc,train\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a"): "cat", ("train", "b"): "dog", ("train", "c"): ""}
    assert dict(dataset.interpretation.found)["present or absent"] == "no row says absent, so a class without a row is absent"


def test_what_open_images_refuses(tmp_path, write, add_images):
    add_images(tmp_path, "a.jpg")
    path = write(
        tmp_path / "train-annotations-machine-imagelabels.csv", "ImageID,Source,LabelName,Confidence\na,machine,/m/0c,0.6\n"
    )
    assert refused(tmp_path) == (
        f"labels of machines only\n  where: {tmp_path}\n  got: {path.name}\n"
        "  expected: labels that people verified, such as train-annotations-human-imagelabels.csv\n"
        "  next: download that file too: a machine's confidence says neither present nor absent"
    )
    path = write(tmp_path / "train-annotations-human-imagelabels.csv", HUMAN + "a,verification,/m/0c\n")
    assert refused(tmp_path) == (
        f"a row does not fit the header\n  where: {path}:5\n  got: a,verification,/m/0c\n"
        "  expected: 4 fields, with ImageID and LabelName"
    )
    write(path, HUMAN + "a,verification,/m/0c,maybe\n")
    assert (
        refused(tmp_path)
        == f"a confidence that cannot be read\n  where: {path}:5\n  got: 'maybe'\n  expected: 1 (present) or 0 (absent)"
    )


@pytest.mark.parametrize("name", ["celeba", "celeba-kaggle", "celeba-flat", "nih", "nuswide", "openimages", "dm-open_images"])
def test_the_layouts_of_the_community(name, labels):
    if not COMMUNITY.is_dir():
        pytest.skip("no ../shared/cases/community beside this checkout")
    dataset = load_dataset(COMMUNITY / name)
    assert len(dataset) == 100
    present = {id.rpartition("/")[2].removesuffix(".jpg"): text for (_, id), text in labels(dataset).items()}
    words = [word for word in present["2007_002268"].split() if not word.startswith("?")]
    assert words == ["cat", "dog", "sofa"]
