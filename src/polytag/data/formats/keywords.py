"""Photographs with keywords of photo software (Lightroom, digiKam, exiftool), inside them or in `.xmp` files beside them."""

import itertools
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.listing import child_names, left_out_note, reason, scan, walk_images
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.data.formats.xml_elements import parse_xml
from polytag.data.images.keywords import MAX_METADATA_BYTES, iptc_keywords, metadata_of, xp_keywords
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular
from polytag.text import counted

_RDF_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
_OTHER_FIELDS = {  # of software that leaves dc:subject out; and the separator of the levels of a keyword
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "|",
    "{http://www.digikam.org/ns/1.0/}TagsList": "/",
    "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP": "/",
}
_MAX_PROBES = 40


@dataclass(frozen=True, kw_only=True)
class _Keywords:
    """The keywords of a photograph, and the field that they are in; "" for a photograph without any such field."""

    field: str
    labels: tuple[str, ...] = ()
    differ: bool = False
    is_broken: bool = False


def keyword_share(data: Path) -> float:
    """The share of the first photographs, of a few dozen, that have keywords; one that cannot be read has none."""
    num_photos = num_tagged = 0
    for path, packet_file in itertools.islice(_photos(data), _MAX_PROBES):
        num_photos += 1
        with suppress(AnnotationError):
            num_tagged += bool(_keywords_of(path, packet_file).labels)
    return num_tagged / max(1, num_photos)


def read_keywords(data: Path, *, context: ReadingContext) -> Dataset:
    """Read the keywords of every photograph in the folder and below.

    A file `1.xmp` or `1.jpg.xmp` outweighs what is inside `1.jpg`; XMP's `dc:subject` outweighs IPTC, and both Windows' tag. A
    photograph whose field is there and empty shows nothing; one without any such field is not annotated, and left out.
    Raises AnnotationError where a file cannot be read, DataError where no photograph has keywords.
    """
    left_out: list[str] = []
    found: list[tuple[Path, _Keywords]] = []
    for path, packet_file in _photos(data, left_out.extend):
        found.append((path, _keywords_of(path, packet_file)))
    if not any(keywords.labels for _, keywords in found):
        raise DataError(
            "no photograph with keywords",
            where=str(data),
            got=", ".join(child_names(data)[:8]),
            expected="keywords in XMP (dc:subject) or IPTC, inside the photographs or in .xmp files beside them",
            next_step="export the photographs with their metadata, or write a CSV file with the columns image and labels",
        )
    context.log.found("images", "every photograph with keywords")
    context.log.found("labels", ", ".join(dict.fromkeys(keywords.field for _, keywords in found if keywords.field)))
    context.log.note(left_out_note(left_out))
    for number, what in (
        (sum(not keywords.field for _, keywords in found), "left out, because they have no keywords: nobody has tagged them"),
        (sum(keywords.differ for _, keywords in found), "where XMP and IPTC differ: XMP counts"),
        (sum(keywords.is_broken for _, keywords in found), "with XMP that is malformed, and not read"),
    ):
        if number:
            context.log.note(f"{counted(number, 'images')} {what}")
    records = (
        Record(image=path.name, where=str(path), present=keywords.labels, path=path, id=path.relative_to(data).as_posix())
        for path, keywords in found
        if keywords.field
    )
    return with_folder_splits(dataset_of(records, source=f"keywords {data}", context=context), context)


def _photos(data: Path, left_out: Callable[[list[str]], object] = lambda _: None) -> Iterator[tuple[Path, Path | None]]:
    """Each photograph with its .xmp file, or None."""
    for inside, names, out in walk_images(data):
        left_out(out)
        place = data / inside
        packets = {name for name in scan(str(place)) if name.lower().endswith(".xmp")} if names else set[str]()
        for name in sorted(names):
            stem = os.path.splitext(name)[0]
            packet_file = next((each for each in (name + ".xmp", stem + ".xmp", stem + ".XMP") if each in packets), None)
            yield place / name, place / packet_file if packet_file else None


def _keywords_of(path: Path, packet_file: Path | None) -> _Keywords:
    try:
        metadata = metadata_of(path)
        if packet_file is not None:
            with open_regular(packet_file) as file:
                packet = file.read(MAX_METADATA_BYTES)
            labels = _xmp_keywords(packet, where=str(packet_file))
            if labels is not None:
                return _Keywords(field="the .xmp file beside each image", labels=labels)
    except OSError as error:
        raise AnnotationError(
            "an image or its .xmp file cannot be opened", where=str(path), got=reason(error), expected="a readable file"
        ) from error
    xmp, is_broken = None, False
    if "xmp" in metadata:
        try:
            xmp = _xmp_keywords(metadata["xmp"], where=str(path))
        except AnnotationError:
            is_broken = True
    iptc = _distinct(iptc_keywords(metadata.get("iptc", b"")))
    if xmp is not None and (xmp or not iptc):
        return _Keywords(field="XMP's dc:subject", labels=xmp, differ=bool(iptc) and set(iptc) != set(xmp))
    if iptc:
        return _Keywords(field="IPTC's keywords", labels=iptc, is_broken=is_broken)
    xp = _distinct(xp_keywords(metadata.get("xp", b"")))
    return _Keywords(field="Windows' keywords in EXIF" if xp else "", labels=xp, is_broken=is_broken)


def _xmp_keywords(packet: bytes, *, where: str) -> tuple[str, ...] | None:
    """The keywords of a packet; None where it has no field of keywords. Raises AnnotationError for what is no XML."""
    root = parse_xml(packet.strip(b"\0 \r\n\t"), where=where)
    subjects = list(root.iter(_SUBJECT))
    if subjects:
        return _distinct(text for element in subjects for text in _items(element))
    fields = [(element, separator) for tag, separator in _OTHER_FIELDS.items() for element in root.iter(tag)]
    if not fields:
        return None
    return _distinct(step for element, separator in fields[:1] for text in _items(element) for step in text.split(separator))


def _items(element: ET.Element) -> Iterator[str]:
    return (item.text or "" for item in element.iter(_RDF_ITEM))


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
