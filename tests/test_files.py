"""Writing survives kill -9, a full disk, a second writer and links: readers find the old or the new, whole."""

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from polytag import files
from polytag.errors import RunError


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path):
    path = tmp_path / "state.pt"
    files.write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(RunError) as error:
            files.write_bytes(path, bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert str(error.value) == (
        f"could not save state.pt: the file size limit is reached\n  where: {path}\n  expected: free space\n"
        "  next: free some space; earlier files are complete, and `polytag train --resume` continues a training run"
    )
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path):
    files.write_folder(tmp_path / "best", lambda folder: files.write_text(folder / "a", "old"))

    def broken(folder: Path) -> None:
        files.write_text(folder / "a", "new")
        raise OSError(28, os.strerror(28))

    with pytest.raises(RunError, match="the disk is full"):
        files.write_folder(tmp_path / "best", broken)
    assert (tmp_path / "best" / "a").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["best"]


# ---- kill -9 and two writers at once ----

_KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from polytag import files

kind, target, num_kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
draw, SIZE = random.Random(0), 100_000

def write(number):
    content = b"%d" % number * SIZE
    if kind == "file":
        files.write_bytes(target, content)
    else:
        files.write_folder(target, lambda fresh: [files.write_bytes(fresh / name, content) for name in ("a", "b")])

def read():
    if kind == "file":
        return {target.read_bytes()}
    while True:  # the folder is always there; its content goes when the next one has taken its place
        handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return {open(os.open(name, os.O_RDONLY, dir_fd=handle), "rb").read() for name in ("a", "b")}
        except FileNotFoundError:
            assert not os.path.samestat(os.fstat(handle), os.stat(target)), "a file is missing in the folder that is in place"
        finally:
            os.close(handle)

def start():
    if pid := os.fork():
        return pid
    try:
        number = os.getpid() % 9
        while True:
            number = (number + 1) % 9
            write(number)
    finally:
        os._exit(1)

pid = os.fork()  # a process of its own writes the first: this one has not written, so each of its children looks for leftovers
if not pid:
    write(0)
    os._exit(0)
os.waitpid(pid, 0)
seen, num_reads = set(), 0
for _ in range(num_kills // 2):
    pair = [start(), start()]
    for pid in pair:
        until = time.monotonic() + draw.uniform(0, 0.03)
        while True:
            found = read()
            assert len(found) == 1, "a mix"
            (content,) = found
            assert len(content) == SIZE and len(set(content)) == 1, "a part"
            seen.add(content[:1])
            num_reads += 1
            if time.monotonic() > until:
                break
        os.kill(pid, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "a writer failed"
write(0)
print(num_reads, len(seen), os.listdir(target.parent))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_two_hundred_kills_and_two_writers_show_a_reader_the_old_or_the_new_and_leave_nothing(kind: str, tmp_path: Path):
    if kind == "folder":
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        if not files.exchange(tmp_path / "a", tmp_path / "b"):
            pytest.skip("names cannot be exchanged here; the folder is then missing between two renames, as is documented")
        (tmp_path / "a").rmdir()
        (tmp_path / "b").rmdir()
    command = [sys.executable, "-c", _KILLS, kind, str(tmp_path / "target"), "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    num_reads, num_seen, names = done.stdout.split(maxsplit=2)
    assert names == "['target']\n"
    assert int(num_reads) > 200
    assert int(num_seen) > 3  # the writers did get to write


def test_what_is_not_surely_ours_is_never_removed(tmp_path: Path):
    folder = tmp_path / "folder"
    others = [
        ".x.part",
        ".x.old",
        ".x.new",
        ".polytag-notes.part",
        ".polytag-0123456789ABCDEF.part",
        "polytag-0123456789abcdef.part",
    ]
    for name in others:
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.txt").write_text("my only copy")
    for name in (".polytag-0123456789abcdef.part", ".polytag-1123456789abcdef.part"):  # of writers that were killed
        (folder / name).mkdir()
    (folder / ".polytag-2123456789abcdef.part").write_text("half")
    (folder / ".polytag-3123456789abcdef.part").symlink_to(tmp_path)
    being_written = files.NewFile(folder / "y")
    with files.temporary_folder(folder) as fresh:
        assert len(list(folder.iterdir())) == len(others) + 2
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib, polytag.files as f; f.write_text(pathlib.Path(sys.argv[1]), '')",
                folder / "z",
            ],
            check=True,
        )
        assert done.returncode == 0
        assert fresh.is_dir()
    being_written.commit()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*others, "y", "z"])
    assert all((folder / name / "thesis.txt").read_text() == "my only copy" for name in others)


# ---- names and links ----


def test_any_name_that_the_file_system_takes(tmp_path: Path):
    longest = tmp_path / ("x" * 255)
    files.write_text(longest, "text")
    files.write_folder(tmp_path / ("y" * 255), lambda folder: files.write_text(folder / ("z" * 255), "text"))
    assert longest.read_text() == (tmp_path / ("y" * 255) / ("z" * 255)).read_text() == "text"
    too_long = tmp_path / ("x" * 256)
    with pytest.raises(RunError) as error:
        files.write_text(too_long, "text")
    assert str(error.value) == (
        f"could not save {too_long.name}\n  where: {too_long}\n  got: File name too long\n  expected: a shorter name"
    )


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path):
    run, home = tmp_path / "run", tmp_path / "home"
    run.mkdir()
    home.mkdir()
    (home / "mine").write_text("mine")
    for name, target in (("a", home / "mine"), ("b", home / "not-there"), ("c", home), ("d", run / "d")):
        (run / name).symlink_to(target)
        files.write_text(run / name, "new")
        assert not (run / name).is_symlink()
    for name in ("e", "f"):
        (run / name).symlink_to(home)
    files.write_folder(run / "e", lambda folder: files.write_text(folder / "mine", "new"))
    (run / "g").mkdir()
    files.put_in_place_by_two_renames(run / "g", run / "f")
    assert (run / "e" / "mine").read_text() == "new"
    assert list((run / "f").iterdir()) == []
    assert [path.read_text() for path in home.iterdir()] == ["mine"]
    assert sorted(path.name for path in run.iterdir()) == list("abcdef")


def test_a_folder_a_device_or_a_pipe_is_no_place_for_a_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name, got in (("pipe", "a device or a pipe"), ("link", "a device or a pipe"), ("folder", "Is a directory")):
        with pytest.raises(RunError) as error:
            files.write_text(tmp_path / name, "text")
        where = tmp_path / name
        assert str(error.value) == f"could not save {name}\n  where: {where}\n  got: {got}\n  expected: the name of a file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("write", ["write_text(Path('x'), 'text')", "write_folder(Path('x'), lambda folder: None)"])
def test_a_working_folder_that_was_removed_is_an_error_at_once(write: str, tmp_path: Path):
    """It exists, by the name of `.`, and nothing can be made in it."""
    script = f"import os; from pathlib import Path; from polytag import files; os.rmdir(os.getcwd()); files.{write}"
    (tmp_path / "gone").mkdir()
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path / "gone", capture_output=True, text=True, timeout=60, check=False)
    assert "RunError: could not save x" in done.stderr
    assert "No such file or directory" in done.stderr


# ---- folders ----


def test_a_folder_without_replacement_comes_into_an_empty_place_alone(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    files.write_folder(out, lambda folder: files.write_text(folder / "a", "first"), replace=False)
    with pytest.raises(RunError, match="got: Directory not empty\n  expected: a new name"):
        files.write_folder(out, lambda folder: files.write_text(folder / "a", "second"), replace=False)
    assert (out / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_names_cannot_be_exchanged_two_renames_put_the_folder_in_place(tmp_path: Path):
    for name in ("best", "fresh"):
        files.write_folder(tmp_path / name, lambda folder, name=name: files.write_text(folder / "a", name))
    files.put_in_place_by_two_renames(tmp_path / "fresh", tmp_path / "best")
    assert (tmp_path / "best" / "a").read_text() == "fresh"
    with pytest.raises(FileNotFoundError):
        files.put_in_place_by_two_renames(tmp_path / "gone", tmp_path / "best")
    assert (tmp_path / "best" / "a").read_text() == "fresh"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


# ---- reading ----


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "link to a device", "link to a pipe"])
def test_what_is_no_file_is_an_error_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind.endswith("pipe"):
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="a folder" if kind == "folder" else "a device or a pipe"):
        files.open_regular(path)


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        with files.open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
