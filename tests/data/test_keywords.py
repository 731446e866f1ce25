"""Keywords inside photographs and beside them. The files in WRITTEN were written by Exiv2 (pyexiv2 2.16) onto images of 8 x 8."""

import base64
import io
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from polytag.data.formats.recognise import recognise
from polytag.data.images.keywords import MAX_METADATA_BYTES, iptc_keywords, metadata_of
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError, PolytagError

WRITTEN = {
    "xmp.png": (
        "c-rljJ#W)M7{?7$Wt0WM020#aIx)oOgfhg~sY=|J2ohCIBr<Y2AMug%3+GGiMhq1aL&xq&h%dmz#()Gn6C>Y&iJkKcp)EpUL1OSpwx7SBNB`fWyB"
        "nU9{o!syzo~1Q*68oK2kN_)KWmrO`$2H~tETBM*?1x+gNGK00t0)|lp0wOYx%M_vlx>(m0(I|EOg+v_a7i&o&z7<9hif-M}4-p6m+y4j>&RPIv(8"
        "Y>UL%+gMdm5vVez)l{v8RwN#w{Mi3Mwa_+#%U?21%LBWQxVVKSBj2*UNR|mH6o>&L&PGzB#1AQrD3!yYkjr5KYi5Y5jIvr%TQM=t#70u)*lsIdK$"
        "$D;4dbl(pg2j?WA;>kJMhodcsPdpP_sGgSUI<<|djwHV0~*Q%wTu=zThGO+K1`}DQ=5l4oB2{iDry-fDp~-xN33KqeM*TeblKF1J}XrzIqMQEZB)"
        "hQGb7^j=+o=-*;4(qvC##J&4uMNDzG3vBbbl=qJyoF1(+w#f9vET>(Ab0<(VDN4-!=;sV)Xu-HeL;k5>(;AvL6i)Q}odL;fp>{%f|Rp&BStH96AW"
        "<c69$ul3!narTPXryoBbH%xr}*1N0P_j{LmU#=X!$;Z<E_RxKM|M80-GpgSj"
    ),
    "xmp.webp": (
        "c-rlj&raJg9LHTYX=uCf2$rYqfK<CJFs)Hj7=Nnm(5cXA<?1?K<JED3<1Sgn6YvHc5Io0r;J{^<y}|BCT)0g=jX70XU=mNTeC0^r-!DIZeolP(?Y"
        "(QYj-CS0+u7`V?7ZH$7Cg4klj*V<h;6jA08UEFi(nCyHeS9sTQJ{BlhOn{`T_p@+P(R`vea9fY~EZwJ3PMpc?R~|9r((E8tZ99*^nF9=L4Z!bp8D"
        "tLE*Wmx7Mz-qb=@>w`0w_<M$ufc*yD=T5rNe>ZCywa6@4lNEJJ&i>Md&xnq5nCJ0VT%+N(ytF2ITxQbVCrM#1hFEwNt+WX|}ZMSlQja=j#6FGz=N"
        "rICV9O?n7*6VdrsgYW(Y%9v~S7m5gR`K&0VVlQHi^zyj!7QfzaAaJBa;(SZ)M%vTl<6_TB@ehVF{$Dznbk@?uT?Rgeh+40K%^M>Mu*l_afM`!J?6"
        "xt{%6iieu^$X$ek2TMooj{exB?yUxpW_cV3X&jpQCsYR4B`Q_XzAsO&!6>5UQrmGR;Ij(5QivdBL_Z<ew*lG*tMH({Ydg$flaROtWH?TE;goeL8?"
        "0R9D|9N10"
    ),
    "iptc.tif": (
        "c-r&y)MDUZU|`^8U|?inU<9&2JVqoo6C*PNGmxGH#LPf8NF0ROpll`}7KEx_0mPzEagZJ{By+@}>;ph7gJjO`W)=n(AU%Tt0yw}>hDnlvIXSTeOs"
        "C|hpGaXJ(g*-fNmV%"
    ),
    "iptc.jpg": (
        "c-s4a<NpH&0WUXCHwH#V1_nkTWcdG<K_?(1za+mnBfmhwSkHjL!pYN@g@pkG1Z0>b8JLq3OTctWe)|9049*N3Y;5dotQ_p@?3|n&Ts$JYJlxzol0"
        "w4#BC=BQa<Wn~G72hs>IzCa$}%z<=9)SNh9)K^^6Hkh7DhID#wJD}Ll`+ZIeEBwBzSoxj1*-QjYtOn4=@OFFaRMlqY?v?AS1IN<NqTJ@<3m)GJ*j"
        "E6fiO|v#_$Ub8vET0~Kr)U|?coW@chxW@QC=lCc&j&%h$cDx_%W$R-?^$gWf<V$?WsA&0Wl#)G0k7eA;NClxhua*2scNJ^=yscUFznV6cHTUc5-y"
        "STc!dw6;UhlGZOM?^*?r=+H(XJlp-mz0*3S5#Itx3spkcXW15nmlFdwCOWu&RVp1$<k%ZSFBvMY4et?+qUo6x$Ds3BS()NKXLNZrOQ{YUb}wd=B<"
        "a19zS{d?D>nAuRebI{N?Mn?>~P20{M%Pfte8ou=-07=r1M~7G@T9kiQt2%0UVQSy&Yf*@PSe*%J$em5drWM4Tor+<1^v**NHfXj0KdE-@98hpHbz"
        "UIY7#IFB`v<uka)5dONwz{AW4j67yR2789Jt|H-w=V#RazX<>n%-L7"
    ),
    "xp.png": (
        "c-rd>@N?(olHy`uVBq!ia0vp^93afW1SGw4HSYi^jnoLwG*3@0unZ%^yg7^vd_a~I0|X>9Br=pRSTm$B<TIo*ynA8a3KSIaba4!+n3HTX@zA*jUV"
        "}tY*)2j0U#%IPuW*+w1nKg0^>bP0l+XkKh9(;{"
    ),
}  # fmt: skip


def packet(*labels, field="dc:subject"):
    items = "".join(f"<rdf:li>{label}</rdf:li>" for label in labels)
    subject = f"<{field}><rdf:Bag>{items}</rdf:Bag></{field}>" if labels != (None,) else ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/">'
        f"{subject}</rdf:Description></rdf:RDF></x:xmpmeta>{' ' * 100}<?xpacket end='w'?>"
    ).encode()


def iptc(*labels, utf8=True):
    start = b"\x1c\x01\x5a\x00\x03\x1b%G" if utf8 else b""
    return start + b"".join(
        struct.pack(">BBBH", 0x1C, 2, 25, len(content)) + content
        for content in (label.encode("utf-8" if utf8 else "latin-1") for label in labels)
    )


def photo(path: Path, *, xmp: bytes | None = None, iptc: bytes | None = None) -> Path:
    """A JPEG with these blocks before its pixels, as cameras and editors put them."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8 + len(list(path.parent.glob("*")))), (200, 100, 7)).save(content, "JPEG")
    blocks = b""
    if xmp is not None:
        body = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        blocks += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    if iptc is not None:
        resource = b"8BIM\x04\x25\0\0" + struct.pack(">I", 16) + bytes(16)  # a digest, before the data
        resource += b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc
        body = b"Photoshop 3.0\0" + resource
        blocks += b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    path.write_bytes(content.getvalue()[:2] + blocks + content.getvalue()[2:])
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_what_exiv2_writes(tmp_path, labels, name):
    path = tmp_path / name
    path.write_bytes(zlib.decompress(base64.b85decode(WRITTEN[name])))
    assert recognise(tmp_path) == "keywords"
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", name): "Schlo\u00df cat" if name.startswith("xmp") else "cat dog"}


def test_keywords_of_every_place_and_what_is_left_out(tmp_path, labels):
    photo(tmp_path / "a.jpg", xmp=packet("cat", "dog"), iptc=iptc("cat"))
    photo(tmp_path / "b.jpg", iptc=iptc("Schlo\u00df", utf8=False))
    photo(tmp_path / "c.jpg", xmp=packet())  # all keywords were removed: it shows nothing
    photo(tmp_path / "d.jpg", xmp=packet(None))
    photo(tmp_path / "e.jpg", xmp=packet("Animals|cat", field="lr:hierarchicalSubject"))
    photo(tmp_path / "f.jpg", xmp=b"<x:xmpmeta>", iptc=iptc("dog"))
    photo(tmp_path / "g.jpg", xmp=packet("old"))
    (tmp_path / "g.jpg.xmp").write_bytes(packet("new"))
    dataset = load_dataset(tmp_path)
    assert {id: text for (_, id), text in labels(dataset).items()} == {
        "a.jpg": "cat dog", "b.jpg": "Schlo\u00df", "c.jpg": "", "e.jpg": "Animals cat", "f.jpg": "dog", "g.jpg": "new",
    }  # fmt: skip
    assert dataset.interpretation.notes == (
        "1 image left out, because they have no keywords: nobody has tagged them",
        "1 image where XMP and IPTC differ: XMP counts",
        "1 image with XMP that is malformed, and not read",
    )


def test_folders_of_splits(tmp_path, labels):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        photo(tmp_path / split / "a.jpg", xmp=packet("cat"))
    assert labels(load_dataset(tmp_path)) == {("train", "train/a.jpg"): "cat", ("val", "val/a.jpg"): "cat"}


def test_albums_of_tagged_photographs_are_asked_about(tmp_path, labels):
    """The folder "2026" is no class, but a folder "cat" may be one: both readings are named."""
    (tmp_path / "holiday").mkdir()
    for number in range(4):
        photo(tmp_path / "holiday" / f"{number}.jpg", xmp=packet("cat"))
    with pytest.raises(DataError, match=r"several annotation formats in one folder\n.*\n  got: folder, keywords\n"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, options=ReadOptions(format="keywords")).label_set.names == ("cat",)
    for number in range(4, 12):
        photo(tmp_path / "holiday" / f"{number}.jpg")
    assert recognise(tmp_path) == "folder"  # a few tagged images are no collection that people tag


def test_photographs_without_keywords(tmp_path):
    photo(tmp_path / "a.jpg", xmp=packet(None))
    with pytest.raises(DataError, match="no annotations were recognised") as error:
        load_dataset(tmp_path)
    assert error.value.next_step == (
        "there are only images, without keywords: add a CSV file with the columns image and labels, or a folder per label"
    )
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path, options=ReadOptions(format="keywords"))
    assert str(error.value) == (
        f"no photograph with keywords\n  where: {tmp_path}\n  got: a.jpg\n"
        "  expected: keywords in XMP (dc:subject) or IPTC, inside the photographs or in .xmp files beside them\n"
        "  next: export the photographs with their metadata, or write a CSV file with the columns image and labels"
    )


def test_other_annotations_outweigh_keywords(tmp_path, write):
    photo(tmp_path / "a.jpg", xmp=packet("cat"))
    write(tmp_path / "labels.csv", "image,labels\na.jpg,dog\n")
    assert recognise(tmp_path) == "csv"


def test_entities_are_not_expanded(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "cat"><!ENTITY b "&a;&a;">]>' + packet("&b;").split(b"?>", 1)[1]
    photo(tmp_path / "a.jpg", xmp=bomb)
    photo(tmp_path / "b.jpg", xmp=packet("dog"))
    assert load_dataset(tmp_path).interpretation.notes[-1] == "1 image with XMP that is malformed, and not read"
    (tmp_path / "b.xmp").write_bytes(bomb)
    with pytest.raises(DataError, match="XML that annotations do not need"):
        load_dataset(tmp_path, options=ReadOptions(format="keywords"))


def test_work_and_memory_are_bounded(tmp_path):
    """A compressed text of gigabytes, thousands of blocks, and sizes that lie."""
    path = tmp_path / "a.png"
    packed = zlib.compress(bytes(50_000_000), 9)
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + packed
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + b"iTXt" + body + bytes(4))
    assert len(metadata_of(path)["xmp"]) == MAX_METADATA_BYTES
    path.write_bytes(b"\xff\xd8" + b"\xff\xe1\0\2" * 200_000)
    assert metadata_of(path) == {}
    path.write_bytes(b"\xff\xd8" + b"\xff\xed\xff\xff" + b"Photoshop 3.0\0" + b"8BIM" * 16_000)
    assert metadata_of(path) == {}
    path.write_bytes(b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 700, 1, 1 << 31, 8) * 5000)
    assert metadata_of(path) == {}
    assert iptc_keywords(b"\x1c\x02\x19\xff\xff" * 1000) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_mutations_end_in_data_or_in_an_error(tmp_path, name):
    content, random_ = zlib.decompress(base64.b85decode(WRITTEN[name])), random.Random(7)
    path = tmp_path / name
    for _ in range(50):
        at = random_.randrange(len(content))
        path.write_bytes(content[:at] + random_.choice([b"", b"\xff", b"\0\0", b"<"]) + content[at + random_.randrange(4) :])
        with suppress(PolytagError):
            load_dataset(tmp_path, options=ReadOptions(format="keywords"))
