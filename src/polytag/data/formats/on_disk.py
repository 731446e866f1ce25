"""Public lists of images of which people have a part only: what is not on the disk is left out, and told."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from polytag.data.formats.records import ReadingContext, Record
from polytag.errors import AnnotationError


def only_on_disk(
    records: Iterable[Record], *, context: ReadingContext, folders: Sequence[str], need_images: bool
) -> Iterator[Record]:
    """The records whose image exists, with its path; raises AnnotationError where there is none of them.

    Without `need_images`, all records are kept, and none is looked for here.
    """
    if not need_images:
        yield from records
        return
    num_records = num_found = 0
    first_missing: Record | None = None
    for record in records:
        num_records += 1
        path = context.index.find(record.image, folders)
        if path is None:
            first_missing = first_missing or record
            continue
        num_found += 1
        yield replace(record, path=path)
    if first_missing is None:
        return
    if not num_found:
        raise AnnotationError(
            "none of the listed images exists",
            where=first_missing.where,
            got=repr(first_missing.image[:200]),
            expected="an image in " + " or ".join(dict.fromkeys(folders)),
            next_step="put the images there, or name their folder with the option image_dirs (--image-dir)",
        )
    context.log.note(
        f"{num_records - num_found:,} of {num_records:,} listed images are not on the disk and are left out, such as "
        f"{first_missing.image[:200]!r}"
    )
