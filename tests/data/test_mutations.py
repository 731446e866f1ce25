"""A hundred small damages to each format's annotations end in data or in an error of ours, never in another exception.

Each reader adds its files to FOLDERS: the damaged one first. The entries of a format, whose names start alike, share the hundred.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import PolytagError

NUM_MUTATIONS = 100  # of a format
_VOC = (
    "<annotation><folder>x</folder><filename>a.jpg</filename><size><width>8</width><height>8</height></size>"
    "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
    "</annotation>"
)
_COCO = json.dumps(
    {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8, "location": "x"},
            {"id": 2, "coco_url": "http://x/val2017/b.jpg", "neg_category_ids": [2], "not_exhaustive_category_ids": []},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 3], "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 0},
        ],
        "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "cat", "supercategory": "x"}, {"id": 2, "name": "dog"}],
    }
)
_KITTI = "Car 0.00 0 -0.20 1 2 6 7 1.89 0.48 1.20 1.84 1.47 8.41 0.01\nDontCare -1 -1 -10 5 1 5 1 -1 -1 -1 -1000 -1000 -1000 -10\n"
_YOLO_YAML = "path: .\nTrain: images/train\nval: [images/val]\nnc: 2\nnames: {0: yes, 1: no}\n"
_CELEBA = "2\ncat dog\na.jpg -1  1\nb.jpg  1 -1\n"
_OPEN_IMAGES = "ImageID,Source,LabelName,Confidence\na,verification,/m/1,1\na,verification,/m/2,0\n"
_CVAT = (
    '<?xml version="1.0"?><annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>'
    '<image id="0" name="a.jpg" subset="Train"><tag label="cat"><attribute name="wild">true</attribute></tag></image></annotations>'
)
_LABEL_STUDIO = json.dumps(
    [
        {
            "id": 1,
            "annotations": [
                {"result": [{"type": kind, "from_name": "x", "value": {kind: ["cat", "dog"]}}], "was_cancelled": False}
                for kind in ("choices", "rectanglelabels")
            ],
            "data": {"image": "/data/upload/1/0123abcd-a.jpg"},
        }
    ]
)
_LABELME = json.dumps(
    {"flags": {"wild": True}, "shapes": [{"label": "cat", "points": []}], "imagePath": "..\\a.jpg", "imageData": None}
)
_MANIFEST = '{"source-ref": "s3://b/a.jpg", "x": [0], "x-metadata": {"class-map": {"0": "cat"}, "type": "groundtruth/y"}}\n'
_VIA = json.dumps({"a.jpg18": {"filename": "a.jpg", "regions": [{"region_attributes": {"kind": "cat"}}], "file_attributes": {}}})
_IMAGES = ("JPEGImages/a.jpg", "JPEGImages/b.jpg")
FOLDERS: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {  # text files, the damaged one first; images
    "voc xml": ({"Annotations/a.xml": _VOC}, _IMAGES),
    "voc list of a class": (
        {"ImageSets/Main/cat_train.txt": "a  1\nb (1) -1\n", "labelmap.txt": "background:::\ncat:::\n"},
        (*_IMAGES, "JPEGImages/b (1).jpg"),
    ),
    "voc list of a split": (
        {"ImageSets/Main/Train.txt": "a\nJPEGImages/b.jpg\n", "Annotations/a.xml": _VOC, "Annotations/b.xml": _VOC},
        _IMAGES,
    ),
    "voc labelmap": ({"labelmap.txt": "# label:color\nbackground:0,0,0::\ncat:1,2,3::\n", "Annotations/a.xml": _VOC}, _IMAGES),
    "coco": ({"labels.json": _COCO}, ("a.jpg", "b.jpg", "val2017/b.jpg")),
    "kitti": ({"label_2/a.txt": _KITTI}, ("image_2/a.png",)),
    "yolo yaml": (
        {"data.yaml": _YOLO_YAML, "labels/train/a.txt": "0 0.5 0.5 0.1 0.1\n", "labels/val/b.txt": "1 0.5 0.5 0.1 0.1\n"},
        ("images/train/a.jpg", "images/val/b.jpg"),
    ),
    "yolo labels": (
        {"labels/a.txt": "0 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.2 0.2 0.3 0.3\n", "classes.txt": "cat\ndog\n"}, ("images/a.jpg",)
    ),
    "yolo list": (
        {"train.txt": "data/obj_train_data/a.jpg\n/x/obj_train_data/b.jpg\n", "obj.names": "cat\n",
         "obj_train_data/a.txt": "0 0.5 0.5 0.1 0.1\n"},
        ("obj_train_data/a.jpg", "obj_train_data/b.jpg"),
    ),
    "class columns": (
        {"labels.csv": 'image,split,"a;b",dog,age\na.jpg,train,1,-1,40\nb.jpg,val,0,,7\n'}, ("a.jpg", "b.jpg")
    ),
    "label lists": (
        {"labels.csv": "sep=;\nIdx;Tags;is_valid\na.jpg;\"['cat' 'dog']\";1\nb.jpg;cat, \"dog\";0\n"}, ("a.jpg", "b.jpg")
    ),
    "label words": ({"labels.tsv": "file_name\ttags\na\tclear haze\nb\thaze water\nc\twater clear\n"}, ("a.jpg", "b.jpg", "c.jpg")),
    "long table": (
        {"labels.csv": "filename,label,confidence,split\na.jpg,cat,1,train\na.jpg,dog,0,train\nb.jpg,dog,1,val\n"},
        ("a.jpg", "b.jpg"),
    ),
    "celeba attributes": (
        {"list_attr_celeba.txt": _CELEBA, "list_eval_partition.txt": "a.jpg 0\nb.jpg 1\n"}, ("a.jpg", "b.jpg")
    ),
    "celeba partition": (
        {"list_eval_partition.txt": "a.jpg 0\nb.jpg 1\n", "list_attr_celeba.txt": _CELEBA}, ("a.jpg", "b.jpg")
    ),
    "nuswide labels": (
        {"TrainTestLabels/Labels_cat_Train.txt": "1\n0\n", "ImageList/TrainImagelist.txt": "x\\a.jpg\nx\\b.jpg\n"},
        ("Flickr/x/a.jpg", "Flickr/x/b.jpg"),
    ),
    "nuswide images": (
        {"ImageList/TrainImagelist.txt": "x\\a.jpg\nx\\b.jpg\n", "TrainTestLabels/Labels_cat_Train.txt": "1\n0\n"},
        ("Flickr/x/a.jpg", "Flickr/x/b.jpg"),
    ),
    "nih": (
        {"Data_Entry_2017.csv": "Image Index,Finding Labels,Patient ID\na.png,Mass|Hernia,1\nb.png,No Finding,2\n",
         "test_list.txt": "b.png\n"},
        ("images_001/images/a.png", "images_002/images/b.png"),
    ),
    "openimages labels": (
        {"train-annotations-human-imagelabels.csv": _OPEN_IMAGES, "class-descriptions.csv": "/m/1,Cat\n"}, ("train/a.jpg",)
    ),
    "openimages descriptions": (
        {"class-descriptions.csv": "/m/1,Cat\n/m/2,Dog\n", "train-annotations-human-imagelabels.csv": _OPEN_IMAGES},
        ("train/a.jpg",),
    ),
    "text vectors": ({"train_list.txt": "a.jpg\t0,1\nb.jpg\t1,1\n", "label_list.txt": "0 cat\n1 dog\n"}, ("a.jpg", "b.jpg")),
    "text classes": ({"label_list.txt": "0 cat\n1 dog\n", "train_list.txt": "a.jpg\t0,1\nb.jpg\t1,1\n"}, ("a.jpg", "b.jpg")),
    "text names": ({"list.txt": 'a.jpg cat dog\n"b.jpg" cat\n'}, ("a.jpg", "b.jpg")),
    "label studio's csv": (
        {"project.csv": "annotation_id,annotator,choice,id,image,lead_time\n"
         '1,1,"{""choices"": [""cat"", ""dog""]}",1,/data/upload/1/0123abcd-a.jpg,2\n2,1,cat,2,b.jpg,3\n'},
        ("a.jpg", "b.jpg"),
    ),
    "headerless boxes": ({"annotations.csv": "a.jpg,1,2,30,40,cat\nb.jpg,,,,,\na.jpg,1,2,30,40,dog\n"}, ("a.jpg", "b.jpg")),
    "headerless import": ({"import.csv": "TRAIN,gs://x/a.jpg,cat,dog\nTEST,gs://x/b.jpg,cat\n"}, ("a.jpg", "b.jpg")),
    "export of Label Studio": ({"project.json": _LABEL_STUDIO}, ("a.jpg",)),
    "export of SageMaker": ({"output.manifest": _MANIFEST}, ("a.jpg",)),
    "export of VIA": ({"via.json": _VIA}, ("a.jpg",)),
    "export of FiftyOne": ({"labels.json": '{"classes": ["cat"], "labels": {"a": [0, "cat", {"label": "cat"}]}}'}, ("data/a.jpg",)),
    "cvat": ({"annotations.xml": _CVAT}, ("images/a.jpg",)),
    "labelme json": ({"a.json": _LABELME.replace("true", "false")}, ("a.jpg",)),
    "labelme xml": (
        {"a.xml": "<annotation><filename>a.jpg</filename><object><name>cat</name><deleted>0</deleted></object></annotation>"},
        ("a.jpg",),
    ),
    "tags": ({"a.txt": "1girl, saber \\(fate\\)\nsolo"}, ("a.jpg",)),
}  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to three flips, cuts, insertions, repetitions or swaps of tokens."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(5):
            case 0:
                content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
            case 1:
                content = content[:at] + content[at + rng.randint(1, 12) :]
            case 2:
                token = rng.choice([b"\0", b'"', b"<", b"[", b"null", b"-1", b"1e999", b"../", b"\n", b"\xff\xfe", b": ", b"&a *a"])
                content = content[:at] + token + content[at:]
            case 3:
                content = content[:at] + content[max(0, at - 20) : at] * 2 + content[at:]
            case _:
                content = content[:at]
    return content


@pytest.mark.parametrize("name", FOLDERS)
def test_damaged_annotations_end_in_data_or_in_an_error_of_ours(name: str, tmp_path: Path):
    files, images = FOLDERS[name]
    for path, content in (*files.items(), *((image, "") for image in images)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert len(load_dataset(tmp_path)), "whole, it is read"
    damaged, whole = tmp_path / next(iter(files)), next(iter(files.values())).encode()
    rng = random.Random(name)
    for number in range(-(-NUM_MUTATIONS // sum(other.split()[0] == name.split()[0] for other in FOLDERS))):
        damaged.write_bytes(content := mutated(whole, rng))
        try:
            load_dataset(tmp_path, options=ReadOptions(accept_doubts=number % 2 == 1))
        except PolytagError:
            pass
        except Exception as error:
            raise AssertionError(f"{name}: mutation {number}: {content!r}") from error
