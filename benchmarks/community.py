"""The same 100 images as 75 tools and layouts write them: is each read as the truth says, or refused with a way out?

A table format x (read, splits, labels), from `../shared/cases/community` and its truth.json. A row is *right* if every listed image
has exactly its labels and its split, *refused* if an error names what to do next, and else *wrong*, which is the worst thing that a
reader can do. Where the annotations have no images beside them, those of another layout are given with `--image-dir`.

    .venv/bin/python benchmarks/community.py            prints the table and writes benchmarks/results/community.json
    .venv/bin/python benchmarks/community.py cvat nih   only the layouts with these words in their names
"""

import json
import re
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from machine import SHARED, describe
from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import PolytagError

COMMUNITY = SHARED / "cases/community"
RESULT = Path(__file__).parent / "results/community.json"
LOOSE_IMAGES = COMMUNITY / "fastai/train"
WITHOUT_IMAGES = {"ls-sdk-csv", "ls-sdk-jsonmin", "pylabel-coco"}
PARTIAL = {"openimages", "dm-open_images", "lvis", "chexpert"}  # these say themselves that some labels are unknown
HELD_OUT_IS_TEST = {"nih", "nuswide"}  # their official second list is for tests
TRAIN_ONLY = {"pylabel-coco", "pylabel-yolo"}  # these were written from the training images alone
OPTIONS: dict[str, dict[str, object]] = {}
"""What a user has to say for a layout, because the annotations do not: the error of reading without it names the option."""


def main() -> None:
    words = sys.argv[1:]
    truth = json.loads((COMMUNITY / "truth.json").read_text())
    rows: dict[str, dict[str, object]] = {}
    for folder in sorted(path for path in COMMUNITY.iterdir() if path.is_dir()):
        if words and not any(word in folder.name for word in words):
            continue
        rows[folder.name] = row = outcome(folder, truth)
        print(
            f"{folder.name:<22} {row['verdict']:<8} {row.get('images', ''):>4} {row.get('splits', ''):<6} {row.get('labels', '')}"
        )
        if row["verdict"] != "right":
            print("    " + str(row.get("error", row.get("example", ""))).replace("\n", "\n    "))
    counts = Counter(str(row["verdict"]) for row in rows.values())
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    if not words:
        RESULT.write_text(json.dumps({"machine": describe(), "counts": counts, "layouts": rows}, indent=1) + "\n")


def outcome(folder: Path, truth: dict[str, object]) -> dict[str, object]:
    """The row of one layout; with OPTIONS, the error of reading without them is part of it."""
    image_dirs = (str(LOOSE_IMAGES),) if folder.name in WITHOUT_IMAGES else ()
    first: dict[str, object] = {}
    begun = time.process_time()
    try:
        try:
            dataset = load_dataset(folder, options=ReadOptions(image_dirs=image_dirs))
        except PolytagError as error:
            first = {"error": portable(str(error)), "is_helpful": bool(error.next_step)}
            if folder.name not in OPTIONS:
                return {"verdict": "refused" if error.next_step else "unhelpful", **first}
            dataset = load_dataset(folder, options=ReadOptions(image_dirs=image_dirs, **OPTIONS[folder.name]))  # pyright: ignore
            first |= {"options": OPTIONS[folder.name]}
    except Exception:
        return {"verdict": "crashed", "error": portable(traceback.format_exc(limit=-3))}
    if folder.name in TRAIN_ONLY:
        truth = truth | {"rows": [row for row in truth["rows"] if row["split"] == "train"]}  # pyright: ignore
    found = compared(dataset, truth, is_partial=folder.name in PARTIAL, is_test=folder.name in HELD_OUT_IS_TEST)
    return (
        found
        | first
        | {"processor_seconds": round(time.process_time() - begun, 2), "notes": [portable(n) for n in dataset.interpretation.notes]}
    )


def portable(text: str) -> str:
    """A text without the folders of this machine, and of the machines of those who wrote the files."""
    return re.sub(r"(?<![\w.])/(?:[\w.-]+/)+", "ELSEWHERE/", text.replace(str(COMMUNITY), "COMMUNITY"))


def compared(dataset: Dataset, truth: dict[str, object], *, is_partial: bool, is_test: bool) -> dict[str, object]:
    """Images, splits and labels against the truth. A class known by its number, or in capitals, is that class."""
    classes: list[str] = truth["classes"]  # pyright: ignore
    rows = {row["id"]: row for row in truth["rows"]}  # pyright: ignore
    name_of = {
        name: classes[int(name)] if name.isdecimal() and int(name) < len(classes) else name.replace("dining table", "diningtable")
        for name in dataset.label_set
    }
    num_wrong = num_unknown = 0
    splits: Counter[str] = Counter()
    example = ""
    seen: set[str] = set()
    for id, path, split, target_C in zip(dataset.ids, dataset.paths, dataset.split_N, dataset.target_NC.tolist(), strict=True):
        key = next((key for key in (stem(id), stem(path.name)) if key in rows), None)
        if key is None or key in seen:
            return {"verdict": "wrong", "example": f"{id!r} is {'no image of the truth' if key is None else 'listed twice'}"}
        seen.add(key)
        right = set(rows[key]["labels"])
        present = {name_of[name] for name, target in zip(dataset.label_set, target_C, strict=True) if target == PRESENT}
        absent = {name_of[name] for name, target in zip(dataset.label_set, target_C, strict=True) if target == ABSENT}
        num_unknown += target_C.count(UNKNOWN)
        if present - right or absent & right:
            num_wrong += 1
            example = example or f"{id!r}: {sorted(present)}, right are {sorted(right)}"
        given = "val" if split == "test" and is_test else split  # the truth has two splits
        splits["kept" if given == rows[key]["split"] else "none" if not split else "wrong"] += 1
    lost = [row["id"] for row in rows.values() if row["id"] not in seen and row["labels"]]
    num_lost_unlabelled = len(rows) - len(seen) - len(lost)
    extra = [name for name in name_of.values() if name not in classes]
    labels = f"wrong {num_wrong}" if num_wrong else f"{num_unknown} unknown" if num_unknown else "equal"
    is_right = (
        not num_wrong and not splits["wrong"] and len(splits) == 1 and not lost and not extra and (is_partial or not num_unknown)
    )
    return {
        "verdict": "right" if is_right else "wrong",
        "format": dataset.interpretation.format,
        "images": len(seen),
        "splits": splits.most_common(1)[0][0] if len(splits) == 1 else str(dict(splits)),
        "labels": labels + (f", {len(lost)} labelled images lost" if lost else "") + (f", extra {extra}" if extra else ""),
        "num_unlabelled_left_out": num_lost_unlabelled,
        "example": example,
    }


def stem(name: str) -> str:
    """The truth's id in an image's name as a tool writes it: upload prefixes, export suffixes and endings removed."""
    name = re.sub(r"\.(jpg|jpeg|png)$", "", name.rpartition("/")[2])
    name = re.sub(r"_jpg\.rf\.[0-9a-f]+$|_frontal$", "", name)
    return re.sub(r"^[0-9a-f]{8}-", "", name)


if __name__ == "__main__":
    main()
