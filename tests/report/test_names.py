"""Names as HTML: where they may wrap, and when the title has them whole."""

import pytest

from polytag.report.names import name_html, path_html


@pytest.mark.parametrize(
    ("name", "html"),
    [
        ("cat", "cat"),
        ("traffic_light", "traffic_<wbr>light"),
        ("hot-air balloon", "hot-<wbr>air balloon"),
        ("sports/ball_a:b|c", "sports/ball_<wbr>a:b|c"),
        ("__a__ - b", "__<wbr>a__ - b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("", ""),
    ],
)
def test_a_name_wraps_after_its_separators(name: str, html: str):
    assert name_html(name) == f'<bdi class="name">{html}</bdi>'


def test_a_long_word_has_a_title():
    assert ' title="' not in name_html("sixteen_letters_ sixteen_letters_")
    assert name_html("w" * 17 + '"') == f'<bdi class="name" title="{"w" * 17}&#34;">{"w" * 17}&#34;</bdi>'


@pytest.mark.parametrize(
    ("path", "html"),
    [
        ("voc /data/VOCdevkit/VOC2012", "voc /<wbr>data/<wbr>VOCdevkit/<wbr>VOC2012"),
        ("C:\\data\\a<b>", "C:\\<wbr>data\\<wbr>a&lt;b&gt;"),
        ("s3://bucket//a/", "s3://<wbr>bucket//<wbr>a/"),
        ("", ""),
    ],
)
def test_a_path_wraps_after_its_separators(path: str, html: str):
    assert path_html(path) == f"<bdi>{html}</bdi>"
