"""Predicting on one's own images in a real browser: dropped, pasted or chosen; several at once; and all that can go wrong."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polytag import predict
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GONE = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
GIVEN = """([kind, files]) => {
    const held = new DataTransfer();
    for (const { name, type, bytes } of files) held.items.add(new File([new Uint8Array(bytes)], name, { type }));
    const made = { bubbles: true, cancelable: true };
    const event = kind === "paste" ? new ClipboardEvent(kind, { ...made, clipboardData: held })
        : new DragEvent(kind, { ...made, dataTransfer: held });
    document.querySelector("main").dispatchEvent(event);
}"""


@pytest.fixture
def inspection(modelled: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    return replace(modelled, review_file=tmp_path / "review.sqlite")


@pytest.fixture
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


@pytest.fixture
def images(inspection: Inspection) -> list[Path]:
    return [Path(path) for path in inspection.predictions.image_paths[:3]]


def upload(name: str, content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": content}


def done(page: Any, number: int) -> None:
    """So many images have their classes."""
    page.locator(".card .found:has(.verdict + .foundlist), .card .found:has(.verdict + details)").nth(number - 1).wait_for()


def told(page: Any) -> dict[str, float]:
    """The classes of the newest image that are unfolded or not, with their numbers."""
    rows = page.locator(".card").first.locator(".foundlist button")
    return {
        rows.nth(place).locator(".name").text_content(): float(rows.nth(place).locator(".score").text_content().strip("<>"))
        for place in range(rows.count())
    }


def test_a_chosen_image_gets_what_predict_says_and_a_heat_map(server, visit, inspection: Inspection, images: list[Path]):
    assert inspection.checkpoint is not None
    before = sorted(path.name for path in inspection.review_file.parent.rglob("*"))
    page = visit(server.url + "/predict")
    page.on("filechooser", lambda _: None)  # from here on Playwright takes the place of the window that asks
    page.reload()
    page.wait_for_selector("#choose:enabled")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("c")
    assert chooser.value.is_multiple()
    chooser.value.set_files(images[0])
    done(page, 1)
    (expected,) = predict(inspection.checkpoint, images[0], device="cpu")
    assert told(page) == pytest.approx(dict(expected.probabilities), abs=0.0011)
    threshold = dict(zip(inspection.predictions.label_set, inspection.threshold_C, strict=True))
    above = [name for name, probability in expected.probabilities.items() if probability > threshold[name]]
    shown = page.locator(".card > .body .found > .foundlist .name").all_text_contents()
    assert shown == above
    page.keyboard.press("h")
    page.wait_for_selector(".card .heat")
    heat, image = (page.locator(f".card .look-sheet > {which}").bounding_box() for which in ("img.heat", "img:not(.heat)"))
    assert heat == pytest.approx(image), "it covers the image, and nothing else"
    assert page.locator(".heat").evaluate("image => image.decode().then(() => image.naturalWidth)") > 32
    page.keyboard.press("h")
    assert page.locator(".heat").count() == 0
    page.reload()
    assert page.locator(".card").count() == 0
    assert sorted(path.name for path in inspection.review_file.parent.rglob("*")) == before, "nothing is stored"


def test_several_one_after_another_and_the_bad_ones_tell_why(server, visit, images: list[Path], tmp_path: Path):
    page = visit(server.url + "/predict", excused=("422",))
    running: list[int] = [0, 0]

    def begins(request: Any) -> None:
        if "/api/predict" in request.url:
            running[0] += 1
            running[1] = max(running)

    def ends(request: Any) -> None:
        running[0] -= "/api/predict" in request.url

    page.on("request", begins)
    page.on("requestfinished", ends)
    contents = [
        ("words.txt", b"hello"),
        ("empty.png", b""),
        ("cut.png", images[0].read_bytes()[:60]),
        ("huge.jpg", b"\xff" * (32 * 2**20 + 1)),
    ]
    for name, content in contents:
        (tmp_path / name).write_bytes(content)
    files = [images[0], *(tmp_path / name for name, _ in contents), *images[1:]]
    page.set_input_files("#files", files)
    done(page, 3)
    problems = page.locator(".problem-text")
    problems.nth(3).wait_for()
    assert page.locator(".card h2").all_text_contents() == [file.name for file in files]
    assert problems.nth(0).inner_text() == "Not an image in a known format."
    assert problems.nth(1).inner_text() == "The file is empty."
    assert "image" in problems.nth(2).inner_text()
    assert problems.nth(3).inner_text() == "Too large: 32.0 MiB, and at most 32 can be sent."
    assert page.inner_text("#counts") == "7 images · 4 failed"
    assert running[1] == 1
    page.click("#clear")
    assert page.locator(".card").count() == 0


def test_dropped_and_pasted(server, visit, images: list[Path]):
    page = visit(server.url + "/predict")
    files = [{"name": path.name, "type": "image/png", "bytes": list(path.read_bytes())} for path in images]
    page.evaluate(GIVEN, ["dragenter", files[:1]])
    assert page.evaluate("document.body.classList.contains('dropping')")
    page.evaluate(GIVEN, ["drop", files[:2]])
    assert not page.evaluate("document.body.classList.contains('dropping')")
    done(page, 2)
    page.evaluate(GIVEN, ["paste", files[2:]])
    done(page, 3)
    assert page.locator(".card h2").all_text_contents() == [files[2]["name"], files[0]["name"], files[1]["name"]]
    page.evaluate(GIVEN, ["paste", []])  # words are pasted: nothing happens
    assert page.locator(".card").count() == 3


def test_an_image_that_lies_on_its_side(server, visit):
    """The camera says how it was held; browser and model turn it alike."""
    file, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 60), "red").save(file, "JPEG", exif=exif)
    page = visit(server.url + "/predict")
    page.set_input_files("#files", upload("side.jpg", file.getvalue(), "image/jpeg"))
    done(page, 1)
    assert page.inner_text(".card header .count") == "60 × 120"
    page.keyboard.press("h")
    page.wait_for_selector(".heat")
    width, height = page.locator(".heat").evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")
    assert height == pytest.approx(2 * width, rel=0.02)


def test_all_by_keys(server, visit, images: list[Path]):
    page = visit(server.url + "/predict")
    page.set_input_files("#files", images)
    done(page, 3)
    focused = "document.activeElement.getAttribute('aria-label')"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == images[1].name
    for details in page.locator("details").all():
        if not details.evaluate("details => details.open"):
            details.locator("summary").press("Enter")
    page.keyboard.press("k")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    name = page.evaluate("document.activeElement.querySelector('.name').textContent")
    page.keyboard.press("Enter")
    page.wait_for_selector(f".heat[alt='Where the model looks for {name}']")
    card = page.evaluate("document.activeElement.closest('.card').getAttribute('aria-label')")
    page.keyboard.press("x")
    assert card not in page.locator(".card h2").all_text_contents()
    assert page.locator(".card").count() == 2
    page.keyboard.press("x")
    page.keyboard.press("x")
    assert page.locator(".card").count() == 0
    assert page.evaluate("document.activeElement.id") == "choose"
    page.keyboard.press("?")
    assert "choose images" in page.inner_text("dialog[open]")


def test_a_busy_model_is_asked_again(server, visit, images: list[Path]):
    page = visit(server.url + "/predict", excused=("503",))
    busy = {"status": 503, "headers": {"retry-after": "1"}, "content_type": "application/json", "body": '{"detail": "busy"}'}
    page.route("**/api/predict", lambda route: route.fulfill(**busy), times=1)
    page.set_input_files("#files", images[0])
    page.get_by_text("The model is busy. Trying again in 1 s.").wait_for()
    done(page, 1)


def test_a_server_that_is_gone_is_told_and_asked_again_by_hand(live, inspection: Inspection, visit, images: list[Path]):
    with contextlib.ExitStack() as first:
        server = first.enter_context(live(create_app(inspection)))
        page = visit(server.url + "/predict", excused=GONE)
        page.set_input_files("#files", images[0])
        done(page, 1)
    page.locator(".card .foundlist button:visible").first.click()
    page.get_by_text("No heat map. No answer from polytag").wait_for()
    page.set_input_files("#files", images[1])
    page.locator(".problem-text").wait_for()
    assert page.inner_text(".problem-text") == "No answer from polytag: is it still running?"
    with live(create_app(inspection), port=server.port):
        page.get_by_role("button", name="Try again").click()
        done(page, 2)


def test_a_model_that_is_gone_is_told(live, inspection: Inspection, visit, tmp_path: Path, images: list[Path]):
    with live(create_app(replace(inspection, checkpoint=tmp_path / "gone"))) as server:
        page = visit(server.url + "/predict", excused=("409",))
        page.set_input_files("#files", images[0])
        page.locator(".problem-text").wait_for()
        assert str(tmp_path) not in page.inner_text(".problem-text")


def test_without_a_model_the_page_says_what_it_needs(live, inspection: Inspection, visit):
    with live(create_app(replace(inspection, checkpoint=None))) as server:
        page = visit(server.url + "/predict")
        assert "Predictions need a model" in page.inner_text("main")
        assert page.locator("input").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width_px", "zoom"), [(1280, 1), (640, 2), (390, 1)])
def test_it_fits_and_runs_nothing_that_a_name_holds(server, visit, images: list[Path], width_px: int, zoom: int, scheme: str):
    options = {"viewport": {"width": width_px, "height": 800 // zoom}, "device_scale_factor": zoom, "color_scheme": scheme}
    page = visit(server.url + "/predict", **options)
    title = page.title()
    name = "<img src=x onerror=document.title='broken'>" + "w" * 200 + ".png"
    page.set_input_files("#files", upload(name, images[0].read_bytes()))
    done(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.inner_text(".card h2") == name
    assert page.title() == title


def test_it_can_be_heard(server, visit, images: list[Path]):
    page = visit(server.url + "/predict")
    page.set_input_files("#files", images[0])
    done(page, 1)
    assert page.inner_text("#announcement").startswith(images[0].name + ": ")
    assert page.get_by_role("list", name="Images, the newest first").count() == 1
    assert page.get_by_role("button", name=f"Remove {images[0].name}").count() == 1
    assert page.get_by_role("listitem", name=images[0].name).count() == 1


def test_what_is_similar_to_one_image_comes_by_itself_once_the_features_are_there(
    visit, server, inspection: Inspection, images: list[Path]
):
    page = visit(server.url + "/predict")
    page.set_input_files("#files", str(images[0]))
    done(page, 1)
    page.wait_for_load_state("networkidle")
    assert page.locator(".similar button").count() == 1  # nobody asked for the features
    page.keyboard.press("s")
    page.locator(".similar .neighbours li").first.wait_for()
    page.reload()
    page.set_input_files("#files", str(images[0]))
    page.locator(".similar .neighbours li").filter(has_text=inspection.predictions.ids[0]).wait_for()
    page.set_input_files("#files", [str(image) for image in images[1:]])
    done(page, 3)
    page.wait_for_load_state("networkidle")
    assert page.locator(".card:not(:last-child) .similar button").count() == 2  # of several only on request


def test_similar_images_of_the_data_set(visit, server, inspection: Inspection, images: list[Path]):
    page = visit(server.url + "/predict")
    page.set_input_files("#files", str(images[0]))
    done(page, 1)
    page.keyboard.press("s")
    nearest = page.locator(".similar .neighbours li").filter(has_text=inspection.predictions.ids[0])
    nearest.wait_for()
    assert nearest.locator("b").inner_text() == "0.000"
    nearest.locator("a").click()
    page.wait_for_url("**/image?id=*")
    assert page.locator(".image-page").get_attribute("data-id") == inspection.predictions.ids[0]
