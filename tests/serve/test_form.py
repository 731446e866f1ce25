"""Forms: what was sent comes out, whatever it is; what is no form is refused in time."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polytag.serve.answer import Refused
from polytag.serve.form import MAX_FIELDS, SentFile, files_of

KIND = b"multipart/form-data; boundary=cut"


def part(content: bytes, head: bytes = b'Content-Disposition: form-data; name="f"; filename="a.jpg"') -> bytes:
    return b"--cut\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
@example([b"\r\n", b"--", b"\r\n--cu", b"\r\n\r\n", b""])
def test_contents_come_back_as_they_are(contents: list[bytes]):
    body = b"".join(part(content) for content in contents) + b"--cut--\r\n"
    if any(b"\r\n--cut" in content for content in contents):
        return
    assert [each.content for each in files_of(body, KIND, max_files=5)] == contents


@given(st.binary(max_size=300))
@example(b"--cut")
@example(b"--cut--")
@example(b"--cut\r\n")
@example(b"--cut\r\n\r\n\r\n--cut--")
def test_whatever_is_sent_is_files_or_refused(body: bytes):
    for kind in (KIND, b"multipart/form-data", body):
        try:
            files = files_of(b"--cut\r\n" + body + b"\r\n--cut--", kind, max_files=3)
        except Refused:
            continue
        assert all(isinstance(each, SentFile) for each in files)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no form", 400),
        (part(b"x"), 400),  # cut off: no last boundary
        (part(b"x")[:-3] + b"\r\n--cut", 400),
        (part(b"x") + b"--cutting--", 400),
        (b"--cut\r\nno end of the headers\r\n--cut--", 400),
        (part(b"x", b"Content-Disposition: form-data; name=a; filename=" + b"x" * 9000) + b"--cut--", 400),
        (part(b"x", b"X: " + b"y" * 9000) + b"--cut--", 400),
        (part(b"eHg=", b"Content-Disposition: form-data; filename=a\r\nContent-Transfer-Encoding: base64") + b"--cut--", 400),
        (part(b"x", b'Content-Disposition: form-data; name="f"') + b"--cut--", 422),
        (part(b"", b'Content-Disposition: form-data; name="f"; filename=""') + b"--cut--", 422),  # a browser without a file
        (part(b"x", b"") + b"--cut--", 422),
        (b"--cut--", 422),
        (part(b"x") * 4 + b"--cut--", 413),
        (part(b"x", b"X: y") * (MAX_FIELDS + 5) + part(b"x") + b"--cut--", 413),
        (part(b"x") * 10_000 + b"--cut--", 413),
    ],
)
def test_what_is_no_form_is_refused(body, status):
    with pytest.raises(Refused) as caught:
        files_of(body, KIND, max_files=3)
    assert caught.value.status == status
    assert len(caught.value.sentence) < 200


def test_a_form_of_another_program():
    """A preamble, an epilogue, other headers in any case and order, a quoted boundary, a name that is not ASCII."""
    head = 'x-more: 1\r\ncontent-type: image/jpeg\r\nCONTENT-DISPOSITION: form-data; filename="zwei ä.jpg"; name=f\r\n\r\n'.encode()
    body = b"preamble\r\n--a b  \r\n" + b"\r\n--a b\r\n".join(head + content for content in (b"1", b"2"))
    files = files_of(body + b"\r\n--a b--\r\nepilogue", b'multipart/form-data; charset=utf-8; boundary="a b"', max_files=2)
    assert files == [SentFile(name="zwei ä.jpg", content=content) for content in (b"1", b"2")]


@pytest.mark.parametrize("piece", [b"\r\n--cu", b"\r\n--", b"-" * 7, b"\r\n--cut\r\n\r\n", b"\r\n\r\n", b"\r\n--cut--"])
def test_beginnings_of_boundaries_cost_no_more_than_other_bytes(piece):
    body = part(b"x") + piece * (16 * 2**20 // len(piece))
    began = time.process_time()
    with pytest.raises(Refused):
        files_of(body, KIND, max_files=3)
    assert time.process_time() - began < 2
