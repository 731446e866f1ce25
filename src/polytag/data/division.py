"""What `polytag data split` leaves: the divided data set as a table, and beside it how it was divided."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag import files
from polytag.contracts import PRESENT, Dataset
from polytag.data.convert import convert
from polytag.data.duplicates.joined_groups import JoinedDuplicates
from polytag.data.groups import divided_groups_note, group_numbers
from polytag.data.write.images import require_new
from polytag.errors import UsageError
from polytag.text import aligned, counted, percent

VERSION = 1
FORMATS = ("csv", "parquet")


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """A divided data set, and how it was divided: all that is needed to divide the same data in the same way again.

    dataset    with its parts as splits, and with the groups that were kept together
    group_N    the groups before near duplicates joined them: the column `group` of the table; () without
    method     "labels" (iterative stratification), "time" (the earliest images first) or "annotations" (folds that they name)
    share_of   the wanted share of each part
    seed       of the random choices among equal ones; unused by "time" and "annotations"
    group, time   columns, "" where none was used
    near       what was found of near duplicates; None where they were not searched
    """

    dataset: Dataset
    method: str
    share_of: Mapping[str, float]
    seed: int
    group: str = ""
    time: str = ""
    near: JoinedDuplicates | None = None
    group_N: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Splits that were not divided."""
        return tuple(split for split in self.dataset.splits if split not in self.share_of)

    def class_shares(self) -> Mapping[str, tuple[float, float]]:
        """For each part the smallest and the largest share of a class's positives that it has, of the classes with 10 or more.

        NaN where no class has so many.
        """
        present_NC = self.dataset.target_NC == PRESENT
        rows_of = {name: np.flatnonzero([split == name for split in self.dataset.split_N]) for name in self.share_of}
        count_PC = np.stack([present_NC[rows].sum(axis=0) for rows in rows_of.values()])
        total_C = count_PC.sum(axis=0)
        share_PC = count_PC[:, total_C >= 10] / total_C[total_C >= 10]
        if not share_PC.size:
            return dict.fromkeys(self.share_of, (float("nan"), float("nan")))
        return {name: (float(share_C.min()), float(share_C.max())) for name, share_C in zip(self.share_of, share_PC, strict=True)}

    def lines(self) -> list[str]:
        """What was done, for people: a table of the parts, and notes."""
        num_divided = sum(split in self.share_of for split in self.dataset.split_N)
        shares = self.class_shares()
        rows = [["part", "images", "share", "wanted", "a class's positives"]]
        for name, wanted in self.share_of.items():
            number, (low, high) = self.dataset.split_N.count(name), shares[name]
            span = "" if low != low else f"{percent(round(low, 3))} to {percent(round(high, 3))}"
            rows.append([name, f"{number:,}", percent(round(number / num_divided, 4)), percent(round(wanted, 4)), span])
        rows += [[name or "(none)", f"{self.dataset.split_N.count(name):,}", "as it was", "", ""] for name in self.kept]
        return [*aligned(rows), *self._notes()]

    def _notes(self) -> list[str]:
        how = {
            "labels": f"stratified by label, seed {self.seed}",
            "time": f"by time, column {self.time!r}, the earliest images first",
            "annotations": "the folds that the annotations name",
        }[self.method]
        notes = [how]
        if self.group:
            notes.append(f"the images of each {self.group} are in one part")
        if self.near is None:
            notes.append("near duplicates were not looked for (--near)")
        else:
            number = f"{counted(self.near.num_groups, 'groups')} ({counted(self.near.num_images, 'images')})"
            notes.append(
                "no near duplicates were found" if not self.near.num_groups else f"{number} of near duplicates stay together"
            )
            if self.near.num_unread:
                notes.append(f"{counted(self.near.num_unread, 'images')} could not be read and compared")
        if note := divided_groups_note(self.dataset):
            notes.append(note)
        return notes

    def to_json(self) -> dict[str, object]:
        """The content of the file beside the table; docs/howto/split.md lists its keys."""
        number_N = group_numbers(self.dataset)
        shares = self.class_shares()
        return {
            "version": VERSION,
            "source": self.dataset.source,
            "command": sys.argv,
            "data_fingerprint": self.dataset.fingerprint,
            "method": self.method,
            "seed": self.seed,
            "group": self.group or None,
            "time": self.time or None,
            "near_duplicates": None
            if self.near is None
            else {
                "num_groups": self.near.num_groups,
                "num_images": self.near.num_images,
                "num_unread": self.near.num_unread,
            },
            "parts": {
                name: {
                    "wanted_share": wanted,
                    "num_images": self.dataset.split_N.count(name),
                    "num_groups": len({int(n) for n, split in zip(number_N, self.dataset.split_N, strict=True) if split == name}),
                    "lowest_class_share": _number(shares[name][0]),
                    "highest_class_share": _number(shares[name][1]),
                }
                for name, wanted in self.share_of.items()
            },
            "other_splits": {name: self.dataset.split_N.count(name) for name in self.kept},
        }


def record_path(out: Path) -> Path:
    """The file beside the table that says how the data were divided: labels.csv has labels-split.json."""
    return out.with_name(f"{out.stem}-split.json")


def require_new_table(out: Path) -> None:
    """Raises UsageError for a file that is no .csv or .parquet, RunError where it or the file beside it exists already."""
    if out.suffix.lower().removeprefix(".") not in FORMATS:
        raise UsageError(
            "unknown kind of table", where=str(out), got=out.suffix or "no ending", expected="a file ending in .csv or .parquet"
        )
    for path in (out, record_path(out)):
        require_new(path)


def write_division(division: Division, out: Path) -> Path:
    """Write the table, in polytag's own columns, and then the file beside it; returns the table. Raises as `require_new_table`."""
    require_new_table(out)
    dataset = replace(division.dataset, group_N=division.group_N)
    table = convert(dataset, out, to=out.suffix.lower().removeprefix("."), group_column=division.group)
    files.write_text(record_path(out), json.dumps(division.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return table


def _number(value: float) -> float | None:
    return None if value != value else round(value, 6)
