"""What `fuzz.py` damages: a valid file of every kind that polytag reads, and the reader of each."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Reader = Callable[[Path], object]
Kind = tuple[str, Path, str, Reader]
"""Name, folder, the file in it that is damaged, and the reader of the folder."""


def image_seeds() -> dict[str, bytes]:
    """An image of every kind that polytag reads, 48 x 40 pixels."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    rgb = Image.fromarray(smooth)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 200
    frames = [rgb.rotate(90 * turn) for turn in range(3)]
    deep = Image.fromarray(smooth[:, :, 0].astype(np.uint16) * 257)
    seeds: dict[str, bytes] = {}

    def add(name: str, image: Image.Image, kind: str, **options: Any) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        seeds[name] = file.getvalue()

    add("baseline.jpg", rgb, "JPEG", exif=exif)
    add("progressive.jpg", rgb, "JPEG", progressive=True)
    add("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
    add("grey.jpg", rgb.convert("L"), "JPEG", restart_marker_blocks=2)
    add("rgb.png", rgb, "PNG")
    add("palette.png", rgb.quantize(16), "PNG", transparency=3)
    add("deep.png", deep, "PNG")
    add("alpha.png", rgb.convert("RGBA"), "PNG")
    add("moving.png", frames[0], "PNG", save_all=True, append_images=frames[1:])
    add("moving.gif", frames[0], "GIF", save_all=True, append_images=frames[1:])
    add("lossy.webp", rgb, "WEBP", exif=exif)
    add("lossless.webp", rgb.convert("RGBA"), "WEBP", lossless=True)
    add("moving.webp", frames[0], "WEBP", save_all=True, append_images=frames[1:])
    add("plain.bmp", rgb, "BMP")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        add(f"{compression}.tif", rgb, "TIFF", compression=compression)
    for compression in ("group3", "group4"):
        add(f"{compression}.tif", rgb.convert("1"), "TIFF", compression=compression)
    add("deep.tif", deep, "TIFF")
    add("pages.tif", frames[0], "TIFF", save_all=True, append_images=frames[1:])
    return seeds


def seed_folders(root: Path) -> list[Kind]:
    """Every kind of annotation, prediction and run, made in `root`; trains for one epoch."""
    from polytag.data.load import load_dataset
    from polytag.models.checkpoint import Checkpoint
    from polytag.predictions.read import read_predictions
    from polytag.predictions.thresholds import read_thresholds
    from polytag.runs.args import load_run_data, read_run_args
    from polytag.runs.folder import RunFolder
    from polytag.runs.history import read_history
    from polytag.runs.model import open_run

    plain = root / "plain"
    names = [f"images/{number}.png" for number in range(24)]
    for number, name in enumerate(names):
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(plain / name)
    targets = [(number % 2, number // 2 % 2, int(number % 3 == 0)) for number in range(24)]
    classes = ("cat", "dog", "sea cow")
    split = ["train" if number % 3 else "val" for number in range(24)]
    boxes = [
        {"id": number, "image_id": number, "category_id": c + 1, "bbox": [2, 2, 10, 12], "area": 120, "iscrowd": 0}
        for number in range(24)
        for c in range(3)
        if targets[number][c]
    ]
    texts = {
        "one-hot.csv": "file_name,split,cat,dog,sea cow\n"
        + "".join(f"{n},{s},{t[0]},{t[1]},{t[2]}\n" for n, s, t in zip(names, split, targets, strict=True)),
        "listed.csv": "image,labels\n"
        + "".join(
            f'{n},"{";".join(c for c, is_it in zip(classes, t, strict=True) if is_it)}"\n'
            for n, t in zip(names, targets, strict=True)
        ),
        "rows.jsonl": "".join(
            json.dumps({"file_name": n, "labels": [c for c, is_it in zip(classes, t, strict=True) if is_it]}) + "\n"
            for n, t in zip(names, targets, strict=True)
        ),
        "coco.json": json.dumps(
            {
                "images": [{"id": k, "file_name": n, "width": 48, "height": 40} for k, n in enumerate(names)],
                "categories": [{"id": c + 1, "name": name} for c, name in enumerate(classes)],
                "annotations": boxes,
            }
        ),
    }
    kinds: list[Kind] = []
    for name, text in texts.items():
        folder = root / name.replace(".", "-")
        shutil.copytree(plain, folder)
        (folder / name).write_text(text)
        kinds.append((name, folder, name, lambda folder, name=name: load_dataset(folder / name)))
    train = root / "one-hot-csv"
    kinds += _box_folders(root, plain, names, targets, classes)
    run = root / "run"
    command = [sys.executable, "-m", "polytag", "train", str(train), "--backbone", "test_resnet", "--weights", "random"]
    subprocess.run([*command, "--image-size", "32", "--epochs", "1", "--output", str(run)], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "polytag", "thresholds", str(run), "--goal", "f1"], check=False, capture_output=True)

    def read_run(folder: Path) -> None:
        load_run_data(read_run_args(RunFolder(path=folder)))

    def read_model(folder: Path) -> None:
        Checkpoint.read(folder / "best").load_model()

    scores = next(run.glob("predictions-*.parquet"))
    label_set = read_predictions(scores).label_set
    table = root / "scores"
    table.mkdir()
    header = "image_id,cat,dog,sea cow,cat_label,dog_label,sea cow_label\n"
    rows = "".join(f"{n},{0.1 * t[0]},{0.3 + 0.2 * t[1]},{0.5},{t[0]},{t[1]},{t[2]}\n" for n, t in zip(names, targets, strict=True))
    (table / "scores.csv").write_text(header + rows)
    (table / "truth.csv").write_text(texts["one-hot.csv"])
    (table / "thresholds.json").write_text(json.dumps(dict.fromkeys(label_set.names, 0.5)))
    np.savez(
        table / "scores.npz", scores=np.random.default_rng(0).random((24, 3)), labels=np.array(targets), classes=np.array(classes)
    )
    kinds += [
        ("args.yaml", run, "args.yaml", read_run),
        ("results.csv", run, "results.csv", lambda folder: read_history(RunFolder(path=folder))),
        ("config.json", run, "best/config.json", read_model),
        ("model.safetensors", run, "best/model.safetensors", read_model),
        ("open_run", run, "best/config.json", open_run),
        ("predictions.parquet", run, scores.name, lambda folder: read_predictions(folder / scores.name)),
        ("scores.csv", table, "scores.csv", lambda folder: read_predictions(folder / "scores.csv", scale="probability")),
        ("scores.npz", table, "scores.npz", lambda folder: read_predictions(folder / "scores.npz", scale="probability")),
        (
            "thresholds.json",
            table,
            "thresholds.json",
            lambda folder: read_thresholds(folder / "thresholds.json", label_set=label_set),
        ),
    ]
    return kinds


def _box_folders(root: Path, plain: Path, names: list[str], targets: list[tuple[int, ...]], classes: tuple[str, ...]) -> list[Kind]:
    """VOC and YOLO, with a box for every label."""
    from polytag.data.load import load_dataset

    voc, yolo = root / "voc", root / "yolo"
    for folder in (voc / "JPEGImages", voc / "Annotations", voc / "ImageSets/Main", yolo / "images/train", yolo / "labels/train"):
        folder.mkdir(parents=True)
    for number, target in enumerate(targets):
        present = [c for c in range(3) if target[c]]
        shutil.copy(plain / names[number], voc / f"JPEGImages/{number}.jpg")
        shutil.copy(plain / names[number], yolo / "images/train")
        objects = "".join(
            f"<object><name>{classes[c]}</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax>"
            "<ymax>30</ymax></bndbox></object>\n"
            for c in present
        )
        (voc / f"Annotations/{number}.xml").write_text(f"<annotation>\n<filename>{number}.jpg</filename>\n{objects}</annotation>\n")
        (yolo / f"labels/train/{number}.txt").write_text("".join(f"{c} 0.5 0.5 0.2 0.3\n" for c in present))
    (voc / "ImageSets/Main/train.txt").write_text("".join(f"{number}\n" for number in range(24)))
    (yolo / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n  2: sea cow\n")
    return [
        ("voc .xml", voc, "Annotations/5.xml", load_dataset),
        ("voc train.txt", voc, "ImageSets/Main/train.txt", load_dataset),
        ("yolo data.yaml", yolo, "data.yaml", load_dataset),
        ("yolo labels", yolo, "labels/train/5.txt", load_dataset),
    ]
