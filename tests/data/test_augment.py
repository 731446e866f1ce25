"""Views and augmentation: sizes, laws, and what the geometry must keep."""

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Preprocessing
from polytag.data.images.augment import AUGMENTATIONS, Augmentation, augmentation, augmented, seen_region, views
from polytag.errors import UsageError


@pytest.fixture
def image() -> Image.Image:
    """A wide image whose left edge is red, right edge blue, middle green."""
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:100, 1] = pixels[:, 100:, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("crops", "num_views"), [("center", 1), ("flip", 2), ("five", 5), ("ten", 10)])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_shape_of_views(image, crops, num_views, fit):
    shape = views(image, Preprocessing(image_size_px=32, fit=fit, crops=crops)).shape
    assert shape == (num_views, 32, 32, 3)


def test_squash_keeps_the_borders_and_crop_loses_them(image):
    squashed = views(image, Preprocessing(image_size_px=32, fit="squash"))[0]
    cropped = views(image, Preprocessing(image_size_px=32, fit="crop"))[0]
    assert squashed[16, 0, 0] > 200
    assert squashed[16, -1, 2] > 200
    assert cropped[16, 0, 0] < 50
    assert cropped[16, -1, 2] < 50


def test_crop_is_torchvisions_resize_and_centre_crop():
    from torchvision.transforms import v2

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (97, 131, 3), np.uint8))
    theirs = v2.Compose([v2.Resize(64, v2.InterpolationMode.BILINEAR), v2.CenterCrop(56)])(noise)
    ours = views(noise, Preprocessing(image_size_px=56, fit="crop", interpolation="bilinear"))[0]
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1


@pytest.mark.parametrize("size", [(40, 700), (700, 40), (61, 45)])
def test_views_of_a_long_strip_are_those_of_the_whole_resized(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    preprocessing = Preprocessing(image_size_px=56, fit="crop", crops="ten")
    whole = views(noise, preprocessing).astype(int)
    monkeypatch.setattr("polytag.data.images.augment._MAX_PIXELS", 1)
    differs = np.abs(views(noise, preprocessing) - whole)
    assert differs.max() <= 6  # a strip's length at the view's scale is rounded to whole pixels, which shifts the corners a little
    assert differs.mean() < 0.5


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1), (1, 16_777_219)])  # the last has no float32 of its own
def test_a_strip_one_pixel_wide_costs_no_more_than_its_pixels(size: tuple[int, int], fit: str):
    """With `crop` it would be 224 million rows high at the view's scale."""
    seen = views(Image.new("RGB", size, (10, 200, 30)), Preprocessing(image_size_px=56, fit=fit, crops="ten"))
    assert (np.abs(seen.astype(int) - (10, 200, 30)) <= 1).all()


def test_mirrored_views_are_mirrors(image):
    ten = views(image, Preprocessing(image_size_px=32, crops="ten"))
    assert (ten[5:] == ten[:5, :, ::-1]).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_a_function_of_its_generator(image, name):
    preprocessing = Preprocessing(image_size_px=32)
    first, again, other = (augmented(image, AUGMENTATIONS[name], preprocessing, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (1, 32, 32, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (name == "none") == bool((first == other).all())


def test_none_is_the_single_view_of_scoring(image):
    seen = augmented(image, AUGMENTATIONS["none"], Preprocessing(image_size_px=32, crops="ten"), np.random.default_rng(0))
    assert (seen == views(image, Preprocessing(image_size_px=32))).all()


def test_light_never_mirrors(image):
    preset, preprocessing = AUGMENTATIONS["light"], Preprocessing(image_size_px=32)
    for seed in range(50):
        colours = augmented(image, preset, preprocessing, np.random.default_rng(seed))[0, 16].argmax(axis=1)
        assert (np.diff(colours) >= 0).all()  # red, then green, then blue, from the left


def test_recolouring_by_nothing_changes_nothing():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    preset = Augmentation(jitter=1e-9)
    seen = augmented(noise, preset, Preprocessing(image_size_px=32), np.random.default_rng(0))
    # only the crop's aspect ratio was drawn; with min_area 1 no other box than the whole fits
    assert np.abs(seen[0].astype(int) - np.asarray(noise)).max() <= 1


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(UsageError) as error:
        augmentation("wild")
    assert str(error.value) == (
        "unknown augmentation\n  where: --augment\n  got: 'wild'\n  expected: one of none, light, standard, strong"
    )


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (64, 64), (33, 200)])
@pytest.mark.parametrize(("fit", "crops"), [("squash", "center"), ("squash", "five"), ("crop", "flip"), ("crop", "ten")])
def test_the_seen_region_is_what_the_first_view_shows(size: tuple[int, int], fit: str, crops: str):
    """An image whose red and green say how far right and down a pixel is: the view's mean colour is its region's middle."""
    width, height = size
    ramp = np.zeros((height, width, 3))
    ramp[..., 0], ramp[..., 1] = (np.arange(width) + 0.5) / width, ((np.arange(height) + 0.5) / height)[:, None]
    preprocessing = Preprocessing(image_size_px=32, fit=fit, crops=crops, crop_fraction=0.5)
    view = views(Image.fromarray((255 * ramp).astype(np.uint8)), preprocessing)[0] / 255
    left, top, right, bottom = seen_region(size, preprocessing)
    assert (0 <= left < right <= 1, 0 <= top < bottom <= 1) == (True, True)
    assert view[..., 0].mean() == pytest.approx((left + right) / 2, abs=0.02)
    assert view[..., 1].mean() == pytest.approx((top + bottom) / 2, abs=0.02)
    assert np.ptp(view[..., 0]) == pytest.approx(right - left, abs=0.05)
    assert np.ptp(view[..., 1]) == pytest.approx(bottom - top, abs=0.05)
