"""Many images in shards: nothing lost, nothing doubled, nothing that is there taken for what it is not."""

import json
import os
import shutil
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.data.columns import NO_COLUMNS, IdColumns, read_columns
from polytag.errors import AnnotationError, DataError, PredictionsError, RunError, UsageError
from polytag.inference.bulk.results import LocalResults, results_at
from polytag.inference.bulk.score import ShardDone, score_shards
from polytag.inference.bulk.shards import Shard, file_name, identity_of, shards_of
from polytag.inference.predict import predict
from polytag.inference.scorers import Scorer, scorer_of
from polytag.predictions.read import read_predictions
from polytag.predictions.shard_files import ShardIdentity, is_shard_folder

if TYPE_CHECKING:
    from polytag.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def scorer(checkpoint: "Checkpoint") -> Scorer:
    return scorer_of(checkpoint, device="cpu", precision="fp32")


@pytest.fixture
def many(images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tar, a zip and a Parquet file of ten images each, below a folder; the working folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("many")
    (folder / "deep er").mkdir(parents=True)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for path in images[:10]:
            archive.add(path, path.name)
    with zipfile.ZipFile(folder / "deep er" / "ü.zip", "w") as archive:
        for path in images[10:20]:
            archive.write(path, f"x/{path.name}")
        archive.writestr("__MACOSX/._a.png", b"")
        archive.writestr("read me.txt", "")
    pq.write_table(pa.table({"image": [path.read_bytes() for path in images[20:30]]}), folder / "c.parquet")
    return folder


Run = Callable[..., list[ShardDone]]


@pytest.fixture
def run(checkpoint: "Checkpoint", scorer: Scorer) -> Run:
    def of(*sources: object, out: str = "out", columns: IdColumns = NO_COLUMNS, cut: int = 4096) -> list[ShardDone]:
        shards, _ = shards_of([str(source) for source in sources], images_per_shard=cut)
        return list(score_shards(checkpoint, shards, LocalResults(Path(out)), scorer=scorer, columns=columns))

    return of


def contents(folder: str = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


# ---- what is written ----


def test_a_file_for_each_shard_and_all_of_them_as_one_table(many: Path, run: Run, checkpoint: "Checkpoint", images: list[Path]):
    done = run(many)
    assert [(each.name, each.num_images, each.error) for each in done] == [
        ("a.tar.parquet", 10, ""),
        ("c.parquet.parquet", 10, ""),
        ("deep er%2Fü.zip.parquet", 10, ""),
    ]
    assert sorted(contents()) == [each.name for each in done]
    found = read_predictions("out")
    assert found.ids == (
        *(f"many/a.tar/{path.name}" for path in images[:10]),
        *(f"many/c.parquet/image/{row}" for row in range(10)),
        *(f"many/deep er/ü.zip/x/{path.name}" for path in images[10:20]),
    )
    assert (found.checkpoint_id, found.calibration, found.source) == (checkpoint.id, "", "out")
    wanted = [result.logit_C for result in predict(checkpoint, [*images[:10]], device="cpu", precision="fp32")]
    np.testing.assert_array_equal(found.logit_NC[:10], wanted)
    single = read_predictions("out/a.tar.parquet")
    assert single.ids == found.ids[:10]


def test_what_is_there_is_left_alone_and_what_is_missing_is_made_again_bit_for_bit(many: Path, run: Run):
    run(many)
    before, times = contents(), {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert [each.was_there for each in run(many)] == [True] * 3
    Path("out/c.parquet.parquet").unlink()
    assert [each.was_there for each in run(many)] == [True, False, True]
    assert contents() == before
    assert Path("out/a.tar.parquet").stat().st_mtime_ns == times["a.tar.parquet"]


def test_lists_are_cut_in_the_order_of_their_names(images: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images[0].parent, "photos")
    done = run("photos/", *images[:3], images[1], cut=30)
    assert [(each.name, each.num_images) for each in done] == [
        ("photos-00000.parquet", 30), ("photos-00001.parquet", 30), ("photos-00002.parquet", 15), ("images-00000.parquet", 3),
    ]  # fmt: skip
    assert read_predictions("out").ids[3:] == tuple(f"photos/{path.name}" for path in images)


def test_an_empty_shard_and_one_of_unreadable_images(run: Run, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open("empty.tar", "w"):
        pass
    with zipfile.ZipFile("broken.zip", "w") as archive:
        archive.writestr("a.png", b"no image")
        archive.writestr("b.png", b"")
    empty, broken, _ = run("empty.tar", "broken.zip", images[0])
    assert (empty.num_images, empty.unreadable, empty.error) == (0, (), "")
    assert [name for name, _ in broken.unreadable] == ["broken.zip/a.png", "broken.zip/b.png"]
    assert pq.read_table("out/broken.zip.parquet")["error"].to_pylist() == ["not an image in a known format", "the image is empty"]
    assert read_predictions("out").ids == (str(images[0]),)
    assert [each.was_there for each in run("empty.tar", "broken.zip", images[0])] == [True] * 3


# ---- what does not match ----


def refused(run: Run, *sources: object, **options: object) -> PredictionsError:
    before = contents()
    with pytest.raises(PredictionsError) as error:
        run(*sources, **options)
    assert contents() == before, "nothing is overwritten"
    return error.value


def test_a_shard_that_was_changed(many: Path, run: Run):
    run(many)
    os.utime(many / "a.tar", ns=(1, 1))
    Path("out/c.parquet.parquet").unlink()
    error = refused(run, many)
    assert error.what == "the folder holds other predictions of a shard of this name"
    assert (error.where, error.got.split(" of ")[0]) == ("out/a.tar.parquet", "a version or time")
    assert "c.parquet.parquet" not in contents(), "nothing is scored before everything is compared"


@pytest.mark.parametrize("change", ["one more", "one less", "another size", "another name"])
def test_a_list_that_was_changed(change: str, images: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images[0].parent, "photos")
    run("photos", cut=30)
    victim = Path("photos/70.png")
    if change == "one more":
        shutil.copy(victim, "photos/99.png")
    elif change == "one less":
        victim.unlink()
    elif change == "another name":
        victim.rename("photos/71b.png")
    else:
        victim.write_bytes(images[3].read_bytes())
    error = refused(run, "photos", cut=30)
    if change == "another size":  # of the last part alone: the other parts are of the same images
        assert (error.where, error.got.split(" with")[0]) == ("out/photos-00002.parquet", "images")
    else:
        assert (error.where, error.got.split(" with")[0]) == ("out/photos-00000.parquet", "a list")


def test_another_model_calibration_precision_and_other_columns(many: Path, run: Run, checkpoint: "Checkpoint", scorer: Scorer):
    run(many)
    shards, _ = shards_of([str(many)])
    results = LocalResults(Path("out"))
    with pytest.raises(PredictionsError) as caught:
        list(score_shards(replace(checkpoint, weights_sha256="0" * 64), shards, results, scorer=scorer))
    assert caught.value.got == f"the model {checkpoint.id} instead of {'0' * 16}"
    error = refused(run, many, columns=IdColumns(names=("x",), sha256="ab"))
    assert error.got == "joined columns with the fingerprint none instead of ab"
    other: Any = SimpleNamespace(engine="torch", precision="bf16")
    with pytest.raises(PredictionsError) as caught:
        list(score_shards(checkpoint, shards, results, scorer=other))
    assert caught.value.got == "the precision fp32 instead of bf16"


DAMAGE: dict[str, Callable[[Path], object]] = {
    "half of it": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "another program's": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "no shard": lambda path: pq.write_table(_without_shard(pq.read_table(path)), path),
    "hostile": lambda path: pq.write_table(_with_shard(pq.read_table(path), b'{"version":1,"shard":{"name":3}}'), path),
    "later version": lambda path: pq.write_table(_with_shard(pq.read_table(path), b'{"version":2,"shard":{"name":"x"}}'), path),
}


def _without_shard(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({key: value for key, value in table.schema.metadata.items() if key != b"polytag.shard"})


def _with_shard(table: pa.Table, value: bytes) -> pa.Table:
    return table.replace_schema_metadata({**table.schema.metadata, b"polytag.shard": value})


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_has_the_name_of_a_result_and_is_none(kind: str, many: Path, run: Run):
    run(many)
    path = Path("out/c.parquet.parquet")
    DAMAGE[kind](path)
    with pytest.raises(PredictionsError) as error:
        run(many)
    assert error.value.where == "out/c.parquet.parquet"
    with pytest.raises(PredictionsError):
        read_predictions("out")


# ---- a shard that fails, and what stops all ----


def test_a_broken_shard_stops_no_other(many: Path, run: Run):
    whole = (many / "a.tar").read_bytes()
    (many / "a.tar").write_bytes(whole[:5000])
    first, *others = run(many)
    assert first.error.startswith("a tar file is cut short")
    assert [each.error for each in others] == ["", ""]
    assert "a.tar.parquet" not in contents()
    (many / "a.tar").write_bytes(whole)
    assert [each.was_there for each in run(many)] == [False, True, True]


def test_images_that_change_while_they_are_scored(many: Path, checkpoint: "Checkpoint", scorer: Scorer):
    shards, _ = shards_of([str(many / "a.tar")])

    def change() -> None:
        (many / "a.tar").write_bytes((many / "a.tar").read_bytes() + bytes(512))

    (done,) = score_shards(checkpoint, shards, LocalResults(Path("out")), scorer=scorer, on_image=change)
    assert done.error.startswith("the images were changed while they were scored")
    assert contents() == {}


def test_a_shard_that_is_gone(many: Path, checkpoint: "Checkpoint", scorer: Scorer):
    shards, _ = shards_of([str(many)])
    (many / "a.tar").unlink()
    first, *others = score_shards(checkpoint, shards, LocalResults(Path("out")), scorer=scorer)
    assert "a file of images cannot be read" in first.error
    assert [each.error for each in others] == ["", ""]


def test_a_parquet_file_without_images_is_an_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"a": [1]}), "t.parquet")
    (done,) = run("t.parquet")
    assert done.error.startswith("the table has no column of images")
    assert contents() == {}


def test_two_shards_of_one_name(many: Path):
    shutil.copytree(many, "other")
    with pytest.raises(UsageError) as error:
        shards_of(["many/a.tar", "other/A.TAR" if Path("other/A.TAR").exists() else "other/a.tar"])
    assert "many/a.tar and other/a.tar" in error.value.got
    assert len(shards_of(["."])[0]) == 6, "below one folder their names differ"


def test_names_that_are_hostile_stay_one_part_of_a_path(tmp_path: Path):
    names = [
        "a/b.tar",
        "a%2Fb.tar",
        "..",
        ".hidden.tar",
        "x" * 300 + ".tar",
        "x" * 301 + ".tar",
        "a\nb.tar",
        "a\\b.tar",
        "\udce9.tar",
    ]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert not name.startswith(".")
        assert len(name.encode()) <= 220
        (tmp_path / f"{name}.parquet").write_text("")
    assert len(list(tmp_path.iterdir())) == len(names)


def test_an_output_that_is_a_file(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="--output is a file"):
        LocalResults(tmp_path / "out")
    with pytest.raises(RunError):
        LocalResults(tmp_path / "out" / "deeper")


def test_two_processes_on_the_same_shards_at_once(many: Path, run: Run):
    run(many, out="whole")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: run(many), range(2)))
    assert [each.error for done in both for each in done] == [""] * 6
    assert contents() == contents("whole")


# ---- reading them as one ----


def test_an_image_in_two_shards(many: Path, run: Run):
    run(many)
    table = pq.read_table("out/a.tar.parquet")
    other = json.loads(table.schema.metadata[b"polytag.shard"])
    other["shard"]["name"] = "z.tar"
    pq.write_table(_with_shard(table, json.dumps(other).encode()), "out/z.tar.parquet")
    with pytest.raises(PredictionsError) as error:
        read_predictions("out")
    assert error.value.got == "'many/a.tar/00.png', also in a.tar.parquet"


def test_a_missing_part_of_a_list_is_told(images: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(*images, cut=20)
    Path("out/images-00002.parquet").unlink()
    with pytest.raises(PredictionsError) as error:
        read_predictions("out")
    assert (error.value.what, error.value.got) == ("1 of the 4 shards of a list of images are missing", "images: without 2")


def test_two_lists_of_one_name(images: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(*images, cut=40)
    run(*images[:70], cut=40, out="other")
    shutil.copy("other/images-00001.parquet", "out/images-00001.parquet")
    with pytest.raises(PredictionsError, match="shards of two lists"):
        read_predictions("out")


def test_shards_of_two_models(many: Path, run: Run):
    run(many)
    table = pq.read_table("out/a.tar.parquet")
    header = json.loads(table.schema.metadata[b"polytag.predictions"]) | {"checkpoint_id": "1" * 16}
    metadata = {**table.schema.metadata, b"polytag.predictions": json.dumps(header).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), "out/a.tar.parquet")
    with pytest.raises(PredictionsError, match="shards of two models"):
        read_predictions("out")


def test_what_is_no_folder_of_shards(tmp_path: Path):
    assert not is_shard_folder(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    assert not is_shard_folder(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"")
    assert not is_shard_folder(tmp_path)


# ---- columns ----


def test_joined_columns_are_in_the_shards(many: Path, run: Run, tmp_path: Path):
    (tmp_path / "t.csv").write_text("id,place,size\n" + "".join(f"many/a.tar/{row:02}.png,p{row % 2},{row}\n" for row in range(5)))
    columns = read_columns(tmp_path / "t.csv")
    (done,) = run("many/a.tar", columns=columns)
    assert done.num_images == 10
    table = pq.read_table("out/a.tar.parquet")
    assert table["place"].to_pylist() == ["p0", "p1", "p0", "p1", "p0", None, None, None, None, None]
    assert len(read_predictions("out")) == 10
    (failed,) = run("many/c.parquet", columns=columns)
    assert failed.error.startswith("no image is in the table of columns")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("id,image\nx,1\n", UsageError),
        ("id,logit/cat\nx,1\n", UsageError),
        ("id\nx\n", AnnotationError),
        ("id,a\nx,1\nx,2\n", AnnotationError),
        ("a,b\n1,2\n", AnnotationError),
    ],
)
def test_columns_that_cannot_be_joined(text: str, kind: type[Exception], many: Path, run: Run, tmp_path: Path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(kind):
        run("many/a.tar", columns=read_columns(tmp_path / "t.csv"))
    assert not Path("out").exists() or contents() == {}


def test_no_image_at_all(tmp_path: Path):
    with pytest.raises(DataError, match="no images to predict on"):
        shards_of([str(tmp_path)])


def test_the_identity_of_a_list_has_the_sizes_of_its_images(images: list[Path]):
    shard = Shard(name="x-0", images=(str(images[0]), "missing.png"), num_shards=1, list="ab")
    assert isinstance(identity_of(shard), ShardIdentity)
    assert identity_of(shard) == identity_of(shard)
    assert identity_of(shard) != identity_of(replace(shard, images=(str(images[0]), "other.png")))


# ---- stores and the web ----


@pytest.fixture
def store(many: Path) -> Iterator[str]:
    """The three files of `many` below a folder of a store."""
    import fsspec

    system: Any = fsspec.filesystem("memory")
    for path in many.rglob("*.*"):
        system.pipe_file(f"/bucket/{path.as_posix()}", path.read_bytes())
    yield "memory://bucket/"
    system.store.clear()


@pytest.fixture
def run_at(checkpoint: "Checkpoint", scorer: Scorer) -> Callable[..., list[ShardDone]]:
    def of(source: str, out: str) -> list[ShardDone]:
        shards, _ = shards_of([source])
        return list(score_shards(checkpoint, shards, results_at(out), scorer=scorer))

    return of


def downloaded(system: Any, folder: str, to: Path) -> Path:
    to.mkdir()
    for path in system.find(folder):
        (to / Path(path).name).write_bytes(system.cat_file(path))
    return to


def test_from_a_store_into_a_store(store: str, many: Path, run: Run, run_at, tmp_path: Path):
    import fsspec

    system: Any = fsspec.filesystem("memory")
    done = run_at(store + "many/", store + "out/")
    assert [(each.name, each.num_images, each.error) for each in done] == [(each.name, each.num_images, "") for each in run(many)]
    found = read_predictions(downloaded(system, "/bucket/out", tmp_path / "copy"))
    own = read_predictions("out")
    assert found.ids == tuple(f"memory://bucket/{name}" for name in own.ids)
    assert found.logit_NC.tobytes() == own.logit_NC.tobytes()
    before = {name: system.cat_file(name) for name in system.find("/bucket/out")}
    assert [each.was_there for each in run_at(store + "many", store + "out")] == [True] * 3
    system.rm_file("/bucket/out/c.parquet.parquet")
    assert [each.was_there for each in run_at(store + "many/", store + "out/")] == [True, False, True]
    assert {name: system.cat_file(name) for name in system.find("/bucket/out")} == before
    assert not list(Path(tempfile.gettempdir()).glob("polytag-*/images.tar")), "what was downloaded is removed"
    system.pipe_file("/bucket/many/a.tar", (many / "a.tar").read_bytes())  # another time of change
    with pytest.raises(PredictionsError, match="other predictions of a shard"):
        run_at(store + "many/", store + "out/")
    system.pipe_file("/bucket/out/a.tar.parquet", b"half")
    with pytest.raises(PredictionsError, match="has the name of a shard's predictions"):
        run_at(store + "many/", store + "out/")


def test_loose_images_of_a_store(store: str, images: list[Path], run_at, run: Run):
    import fsspec

    system: Any = fsspec.filesystem("memory")
    for path in images[:40]:
        system.pipe_file(f"/bucket/photos/{path.name}", path.read_bytes())
    system.pipe_file("/bucket/photos/empty.png", b"")
    (done,) = run_at(store + "photos", "out")
    assert (done.name, done.num_images) == ("photos-00000.parquet", 41)
    assert done.unreadable == (("memory://bucket/photos/empty.png", "the image is empty"),)
    run(*images[:40], out="own")
    assert read_predictions("out").logit_NC.tobytes() == read_predictions("own").logit_NC.tobytes()
    system.pipe_file("/bucket/photos/00.png", images[1].read_bytes())
    with pytest.raises(PredictionsError) as error:
        run_at(store + "photos", "out")
    assert error.value.got.startswith("images with the fingerprint")


def test_a_store_that_fails_is_no_unreadable_image(store: str, images: list[Path], run_at, monkeypatch: pytest.MonkeyPatch):
    """A row with an error would be kept for ever; a shard without a file is made by the next run."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    system: Any = fsspec.filesystem("memory")
    for path in images[:5]:
        system.pipe_file(f"/bucket/photos/{path.name}", path.read_bytes())
    own = MemoryFileSystem.cat_file

    def denied(self: Any, path: str, **options: Any) -> bytes:
        if path.endswith("03.png"):
            raise PermissionError("the token is no longer valid")
        return own(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", denied)
    (done,) = run_at(store + "photos", "out")
    assert done.error.startswith("a store does not allow this")
    assert contents() == {}
    monkeypatch.setattr(MemoryFileSystem, "cat_file", own)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
    with pytest.raises(RunError) as error:
        run_at(store + "photos", store + "out/")
    assert (error.value.what, error.value.got) == ("could not save photos-00000.parquet", "read only")


def test_addresses_that_are_no_folder(run_at, many: Path):
    with pytest.raises(DataError, match="a folder of the web cannot be listed"):
        shards_of(["https://host/folder/"])
    with pytest.raises(UsageError, match="nothing can be written to the web"):
        results_at("https://host/folder/")
    with pytest.raises(DataError, match="there is no file at this address"):
        shards_of(["memory://bucket/nothing.tar"])
    assert shards_of([f"file://{many.absolute()}"])[0][0].name == "a.tar"


def test_images_of_the_web_among_others(images: list[Path], checkpoint: "Checkpoint", tmp_path: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(images[0].parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        given = [f"{url}/{images[1].name}?size=large", images[0], f"{url}/nothing.png", f"{url}/{images[2].name}"]
        found = list(predict(checkpoint, given, device="cpu", precision="fp32"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert [result.path for result in found] == given
    assert [result.error for result in found] == ["", "", "the image is missing", ""]
    own = list(predict(checkpoint, [images[1], images[0], tmp_path / "x", images[2]], device="cpu", precision="fp32"))
    assert [result.logit_C.tobytes() for result in found] == [result.logit_C.tobytes() for result in own]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
