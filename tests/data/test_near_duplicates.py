"""Near duplicates: planted ones found, plain and alike images kept apart, the search against counting all pairs."""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, ImageOps

from polytag.contracts import Dataset, LabelSet
from polytag.data.check import check
from polytag.data.duplicates.alignment import SAME_PLACE, sampled
from polytag.data.duplicates.groups import ModelFeatures
from polytag.data.duplicates.hash_search import candidate_pairs
from polytag.data.duplicates.leakage import find_leakage, training_images
from polytag.data.duplicates.near_duplicates import feature_pairs, fingerprints_of, groups_of, near_pairs, small_copy
from polytag.data.duplicates.views import RADIUS, VIEW_RADIUS, VIEWS, view_hashes
from polytag.data.images.read import read_image
from polytag.errors import UsageError


@cache
def photograph(seed: int, *, width: int = 240, height: int = 180) -> Image.Image:
    """Something with the spectrum of a photograph: coloured noise whose power falls with the frequency, and a few edges."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    spectrum = rng.normal(size=(3, height, width)) + 1j * rng.normal(size=(3, height, width))
    noise = np.fft.ifft2((0.8 * spectrum[:1] + 0.35 * spectrum) / np.maximum(frequency, 1 / width) ** 1.3).real
    pixels = 128 + 50 * (noise - noise.mean()) / noise.std()
    for _ in range(3):
        x, y = rng.integers(0, width - 60), rng.integers(0, height - 60)
        pixels[:, y : y + 50, x : x + 40] += rng.normal(0, 35, (3, 1, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def saved(image: Image.Image, *, kind: str = "JPEG", quality: int = 40) -> Image.Image:
    file = BytesIO()
    image.save(file, kind, quality=quality)
    return read_image(file.getvalue())


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(share * width), 0, width, round((1 - share) * height)))


def tinted(image: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    return image.convert("RGB", (red, 0, 0, 0, 0, green, 0, 0, 0, 0, blue, 0))


def marked(image: Image.Image) -> Image.Image:
    """With a caption across the middle, half transparent."""
    mark = Image.new("L", image.size, 0)
    ImageDraw.Draw(mark).text((20, 70), "SAMPLE", fill=128, font=ImageFont.load_default(45))
    return Image.composite(Image.new("RGB", image.size, "white"), image, mark)


VERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": saved,
    "webp": lambda image: saved(image, kind="WEBP"),
    "half": lambda image: saved(image.resize((image.width // 2, image.height // 2))),
    "twice": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "square": lambda image: saved(image.resize((224, 224))),
    "brighter": lambda image: saved(image.point(lambda level: min(255, round(1.15 * level + 8)))),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirror": lambda image: saved(ImageOps.mirror(image)),
    "crop": lambda image: saved(cropped(image, 0.02)),
    "crop more": lambda image: saved(cropped(image, 0.05)),
    "sepia": lambda image: saved(image.convert("RGB", (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0))),
    "warm": lambda image: saved(tinted(image, 1.2, 1.0, 0.8)),
    "cold": lambda image: saved(tinted(image, 0.85, 1.0, 1.2)),
    "watermark": lambda image: saved(marked(image)),
    "white border": lambda image: saved(ImageOps.expand(image, 12, "white")),
    "bars above and below": lambda image: saved(ImageOps.pad(image, (240, 240), color="black")),
    "tilted": lambda image: saved(image.rotate(3, Image.Resampling.BICUBIC)),
    "quarter turn": lambda image: saved(image.transpose(Image.Transpose.ROTATE_90)),
    "three quarters": lambda image: saved(image.transpose(Image.Transpose.ROTATE_270)),
    "half turn": lambda image: saved(image.transpose(Image.Transpose.ROTATE_180)),
    "upside down": lambda image: saved(ImageOps.flip(image)),
    "transposed": lambda image: saved(image.transpose(Image.Transpose.TRANSPOSE)),
}
MIRRORED, TURNED = (
    {"mirror", "upside down", "transposed"},
    {"quarter turn", "three quarters", "half turn", "upside down", "transposed"},
)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_another_version_is_found_and_no_other_image(version: str):
    images = [photograph(seed) for seed in range(40)]
    copies = [small_copy(image) for image in images] + [small_copy(VERSIONS[version](image)) for image in images]
    pairs = near_pairs(fingerprints_of(copies))
    assert (pairs.second_P - pairs.first_P == 40).all()
    assert len(pairs) >= (38 if "crop" in version or version == "tilted" else 40)
    assert pairs.is_mirrored_P.all() == pairs.is_mirrored_P.any() == (version in MIRRORED)
    assert pairs.is_turned_P.all() == pairs.is_turned_P.any() == (version in TURNED)


def test_real_photographs(shared: Path):
    """The generated twin is above. Every version of 100 photographs is found among all 1,748, and no two of these are one."""
    from polytag import load_dataset

    dataset = load_dataset(shared / "data" / "voc-mini" / "VOCdevkit" / "VOC2012")
    images = [read_image(path) for path in dataset.paths]
    copies = [small_copy(image) for image in images]
    assert len(near_pairs(fingerprints_of(copies))) == 0
    rows = range(0, 1700, 17)
    for version in ("jpeg", "half", "mirror", "sepia", "warm", "quarter turn"):
        pairs = near_pairs(fingerprints_of(copies + [small_copy(VERSIONS[version](images[row])) for row in rows]))
        assert pairs.first_P.tolist() == list(rows)
        assert pairs.second_P.tolist() == list(range(1748, 1748 + len(rows)))


def test_plain_images_are_flat_and_like_nothing():
    blanks = [Image.new("RGB", size, colour) for size, colour in (((90, 60), "white"), ((30, 30), "white"), ((50, 80), "red"))]
    fingerprints = fingerprints_of([small_copy(saved(image)) for image in blanks])
    assert fingerprints.is_flat_N.all()
    assert len(near_pairs(fingerprints)) == 0


def test_drawings_with_the_same_border_are_kept_apart():
    """Black frames and white pages hash alike; what tells them apart is inside."""
    rng = np.random.default_rng(0)
    pages = []
    for _ in range(60):
        page = np.full((200, 160, 3), 20, np.uint8)
        page[15:-15, 12:-12] = 245
        for _ in range(12):
            y, x = rng.integers(25, 165), rng.integers(20, 90)
            page[y : y + 6, x : x + rng.integers(20, 50)] = 30
        pages.append(Image.fromarray(page))
    fingerprints = fingerprints_of([small_copy(page) for page in pages])
    assert not fingerprints.is_flat_N.any()
    assert len(near_pairs(fingerprints)) == 0
    again = near_pairs(fingerprints_of([small_copy(page) for page in (*pages, *map(saved, pages))]))
    assert (again.second_P - again.first_P == 60).all()
    assert len(again) == 60


def test_images_of_one_camera_with_different_animals_are_kept_apart():
    """What differs covers a seventh of the image; a robust correlation would leave it out."""
    rng, background = np.random.default_rng(0), photograph(99)
    scenes = []
    for seed in range(100, 130):
        scene = background.copy()
        x, y = int(rng.integers(0, 240 - 90)), int(rng.integers(0, 180 - 68))
        scene.paste(photograph(seed).crop((60, 40, 150, 108)), (x, y))
        scenes.append(scene)
    assert len(near_pairs(fingerprints_of([small_copy(scene) for scene in scenes]))) == 0


def test_the_same_drawing_in_another_colour_is_another_image():
    white = np.full((120, 120, 3), 240, np.uint8)
    shirts = []
    for colour in ((200, 30, 30), (30, 30, 200)):
        shirt = white.copy()
        shirt[20:100, 40:80], shirt[25:50, 20:100] = colour, colour
        shirts.append(small_copy(Image.fromarray(shirt)))
    assert len(near_pairs(fingerprints_of(shirts))) == 0


def hashes(seed: int, number: int, *, bits: int) -> np.ndarray:
    """Hashes that differ from a few in few bits, mirrors among them."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**64, 4, dtype=np.uint64)
    hash_N = base[rng.integers(0, 4, number)]
    for _ in range(bits):
        hash_N = hash_N ^ (np.uint64(1) << rng.integers(0, 64, number, dtype=np.uint64)) * rng.integers(
            0, 2, number, dtype=np.uint64
        )
    return hash_N


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), bits=st.integers(1, 16), radius=st.integers(0, RADIUS), view_radius=st.integers(0, RADIUS))
def test_the_search_finds_what_counting_all_pairs_finds(seed: int, bits: int, radius: int, view_radius: int):
    hash_NV = np.concatenate([hashes(seed, 40, bits=bits)[:, None], hashes(seed + 1, 80, bits=bits).reshape(40, 2)], axis=1)
    hash_NV[::3, 1] ^= hash_NV[::3, 0] ^ hash_NV[7, 0]  # views of some images that are near others
    hash_NV[::4, 2] = hash_NV[5, 0] ^ np.uint64(5)
    radius_V = (radius, view_radius, view_radius)
    found = candidate_pairs(hash_NV, radius_V=radius_V)
    expected: list[tuple[int, int, int, int]] = []
    for low in range(40):
        for high in range(low + 1, 40):
            ways = [
                (int(np.bitwise_count(hash_NV[query, view] ^ hash_NV[other, 0])), view, query, other)
                for query, other in ((low, high), (high, low))
                for view in range(3)
            ]
            near = [way for way in ways if way[0] <= radius_V[way[1]] and (way[1] or way[2] == low)]
            if near:
                expected.append(min(near))
    got = zip(found.bits_P.tolist(), found.view_P.tolist(), found.query_P.tolist(), found.other_P.tolist(), strict=True)
    assert [(bits, view, {query, other}) for bits, view, query, other in got] == [
        (bits, view, {query, other}) for bits, view, query, other in expected
    ]


def test_the_hash_of_a_view_is_that_of_the_image_changed_so():
    """Mirrored, turned and cropped; without the views some would be missed."""
    images = [photograph(seed, width=320, height=320) for seed in range(20)]
    grey_NSS = fingerprints_of([small_copy(image) for image in images]).grey_RSS
    hash_NV = view_hashes(grey_NSS)
    trimmed, before = 0.07 * 320, 0.15 * 0.07 * 320
    box = (round(before), round(before), round(before + 320 - trimmed), round(before + 320 - trimmed))
    changes: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: ImageOps.mirror,
        2: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        5: lambda image: ImageOps.mirror(image).transpose(Image.Transpose.ROTATE_90),
        9: lambda image: image.crop(box),
    }
    for view, change in changes.items():
        changed_N = fingerprints_of([small_copy(change(image)) for image in images]).hash_RV[:, 0]
        differs_NV = np.bitwise_count(hash_NV ^ changed_N[:, None])
        assert (differs_NV.argmin(axis=1) == view).all()
        assert differs_NV.min(axis=1).max() <= VIEW_RADIUS
        assert differs_NV[:, 0].max() > RADIUS


def test_a_view_is_sampled_where_its_map_says():
    """Pixels that hold their own position: mirrored and turned as Pillow does it, then moved."""
    y, x = np.mgrid[:32, :32].astype(np.float32) - 15.5
    for view in VIEWS:
        seen, inside = sampled(view.of(x[None]), view.map_23[None])
        picture = Image.fromarray(x)
        picture = ImageOps.mirror(picture) if view.is_mirrored else picture
        expected = np.asarray(picture.rotate(90 * view.quarter_turns))
        if np.array_equal(view.map_23, SAME_PLACE):
            assert inside.all()
            np.testing.assert_array_equal(seen[0], expected)
        else:
            (a, b, c), (d, e, f) = view.map_23.tolist()
            assert inside[0, 15:17, 15:17].all()
            position_x, position_y = a * x + b * y + c, d * x + e * y + f
            assert (inside[0] == (np.maximum(abs(position_x), abs(position_y)) <= 15.501)).all()
            if not view.quarter_turns:
                sign = -1 if view.is_mirrored else 1
                np.testing.assert_allclose(seen[0][inside[0]], sign * position_x[inside[0]], atol=2e-3)


def test_a_plain_frame_is_found_and_a_plain_sky_is_not():
    image = photograph(3)
    assert len(small_copy(image)) == 1152
    for colour, width in (("white", 6), ("black", 30), ((90, 120, 40), 15)):
        framed = small_copy(saved(ImageOps.expand(image, width, colour), quality=75))
        assert len(framed) == 2304
        inner = np.frombuffer(framed, np.uint8)[1152:2176].astype(float)
        whole = np.frombuffer(small_copy(image), np.uint8)[:1024].astype(float)
        assert np.corrcoef(inner, whole)[0, 1] > 0.99
    assert len(small_copy(Image.new("RGB", (64, 48), "white"))) == 1152  # blank: nothing is inside


@pytest.mark.slow
def test_many_images_with_one_hash_are_one_group_in_little_time():
    copy = small_copy(photograph(0))
    fingerprints = fingerprints_of([copy] * 500)
    pairs = near_pairs(fingerprints)
    assert len(pairs) <= 33 * 500  # of 124,750
    group_N = groups_of(np.stack([pairs.first_P, pairs.second_P], axis=1), num_rows=500)
    assert (group_N == 0).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), number=st.integers(0, 40))
def test_groups_are_connected_components(seed: int, number: int):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pair_P2 = np.random.default_rng(seed).integers(0, 30, (number, 2))
    group_N = groups_of(pair_P2, num_rows=30)
    _, oracle_N = connected_components(coo_array((np.ones(number), (pair_P2[:, 0], pair_P2[:, 1])), shape=(30, 30)), directed=False)
    assert (group_N <= np.arange(30)).all()
    assert ((group_N[:, None] == group_N) == (oracle_N[:, None] == oracle_N)).all()


def test_feature_pairs_are_those_of_the_whole_matrix():
    feature_ND = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    feature_ND[4] = 0
    unit = feature_ND / np.maximum(np.linalg.norm(feature_ND, axis=1, keepdims=True), 1e-9)
    first, second = np.nonzero(np.triu(unit @ unit.T >= 0.9, k=1))
    pair_P2, cosine_P = feature_pairs(feature_ND, cosine=0.9, block=7)
    assert pair_P2.tolist() == np.stack([first, second], axis=1).tolist()
    np.testing.assert_allclose(cosine_P, (unit @ unit.T)[first, second], rtol=1e-5)


# ---- in a data set


@pytest.fixture
def versions(tmp_path: Path) -> Dataset:
    """train: a, b, its mirror b2, a blank; val: a saved anew, the bytes of b, c, another blank."""
    a, b, c = (photograph(seed) for seed in (1, 2, 3))
    a.save(tmp_path / "a.png")
    b.save(tmp_path / "b.jpg", quality=90)
    ImageOps.mirror(b).save(tmp_path / "b2.jpg", quality=60)
    a.resize((120, 90)).save(tmp_path / "a-small.jpg", quality=70)
    (tmp_path / "b-again.jpg").write_bytes((tmp_path / "b.jpg").read_bytes())
    c.save(tmp_path / "c.jpg")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    Image.new("RGB", (60, 50), "white").save(tmp_path / "blank-2.png")
    names = ("a.png", "b.jpg", "b2.jpg", "blank.png", "a-small.jpg", "b-again.jpg", "c.jpg", "blank-2.png")
    return Dataset(
        ids=tuple(Path(name).stem for name in names),
        paths=tuple(tmp_path / name for name in names),
        target_NC=np.array([[1, 0], [0, 1], [0, 1], [1, 1]] * 2),
        split_N=("train",) * 4 + ("val",) * 4,
        label_set=LabelSet(names=("x", "y")),
        source="a test",
    )


def test_check_groups_versions_and_tells_what_stands_in_two_splits(versions: Dataset):
    found = check(versions, near=True)
    assert found.near_duplicates is not None
    assert [[image.id for image in group.images] for group in found.near_duplicates] == [
        ["a", "a-small"],
        ["b", "b2", "b-again"],
    ]
    assert [group.is_mirrored for group in found.near_duplicates] == [False, True]
    assert all(0 <= group.bits <= RADIUS and group.correlation > 0.95 for group in found.near_duplicates)
    assert found.num_flat == 2
    assert found.warnings[-2:] == (
        "2 images have different versions in more than one split, so validation scores are too high: a ≈ a-small, b ≈ b2 ≈ b-again",
        "2 images have too little detail to be compared with others",
    )
    assert found.to_json()["near_duplicates"][0]["images"][0] == {"id": "a", "split": "train", "path": str(versions.paths[0])}
    assert check(versions).near_duplicates is None


def test_check_near_needs_the_images(versions: Dataset):
    with pytest.raises(UsageError, match="near duplicates are found by reading the images"):
        check(versions, near=True, read_images=False)


def test_look_alikes_join_contents_and_leave_unread_rows_out(versions: Dataset):
    feature_ND = np.array([[1, 0], [0, 1], [0.05, 1], [0, 1.0]], np.float32)
    features = ModelFeatures(feature_ND=feature_ND, row_N=np.array([0, 1, 2, 5]), cosine=0.99)  # row 5 has the bytes of row 1
    found = check(versions, features=features)
    assert found.feature_duplicates is not None
    assert [[image.id for image in group.images] for group in found.feature_duplicates] == [["b", "b2", "b-again"]]
    assert found.feature_duplicates[0].cosine == pytest.approx(1 / np.hypot(0.05, 1))


def test_leaks_are_exact_or_near_and_what_cannot_be_compared_is_counted(versions: Dataset):
    val = versions.split("val")
    scored = [*map(str, val.paths), "", str(val.paths[0].with_name("gone.jpg"))]
    leakage = find_leakage(scored, training_images(versions, scored=scored).paths)
    assert [(each.row, Path(each.path).name, each.is_exact) for each in leakage.images] == [
        (0, "a.png", False),
        (1, "b.jpg", True),
    ]
    assert leakage.is_leaked_N.tolist() == [True, True, False, False, False, False]
    assert (leakage.num_scored, leakage.num_trained_on, leakage.num_not_compared) == (6, 4, 3)


def test_without_a_split_what_was_scored_is_not_what_was_trained_on(versions: Dataset):
    from dataclasses import replace

    unsplit = replace(versions, split_N=("",) * 8)
    scored = [str(path) for path in versions.paths[4:]]
    assert training_images(unsplit, scored=scored).paths == versions.paths[:4]
    assert training_images(versions, scored=scored).paths == versions.paths[:4]


def test_an_image_that_stands_in_both_splits_is_a_leak(versions: Dataset):
    leakage = find_leakage([str(versions.paths[0])], versions.paths)
    assert [(each.path, each.is_exact) for each in leakage.images] == [(str(versions.paths[0]), True)]
