"""Every file is written by the one primitive of files.py: what is written otherwise stands here, with the reason."""

import ast
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src" / "polytag"
NEW = "into a new folder of write_folder, which nobody sees before it is complete"
OTHERWISE = {
    ("data/write/voc.py", "write_text"): NEW,
    ("data/write/coco.py", "write_text"): NEW,
    ("data/write/huggingface.py", "open"): NEW,
    ("data/write/webdataset.py", "write_text"): NEW,
    ("data/write/webdataset.py", "open"): NEW,
    ("data/write/images.py", "link"): NEW,
    ("data/write/images.py", "copyfile"): NEW,
    ("demo/scenes.py", "write_text"): NEW,
    ("data/fetch/unpack.py", "open"): "into a new folder of temporary_folder",
    ("data/fetch/fetch.py", "rename"): "gives the unpacked folder its name",
    ("data/fetch/fetch.py", "os.open"): "the partial download, which a later call resumes; no link is followed",
    ("data/remote/web.py", "open"): "a download into a folder for temporary files of its own",
    ("data/remote/stores.py", "open"): "a download into a folder for temporary files of its own",
    ("data/cache/image_cache.py", "open"): "a lock in the user's cache",
    ("models/checkpoint_files.py", "os.open"): "reads",
    ("cli/progress.py", "os.open"): "the null device, where nobody reads the output any more",
    ("export/executorch_program.py", "os.open"): "the null device, while ExecuTorch's runtime writes to stderr",
    ("runs/folder.py", "os.open"): "the lock of a run; no link is followed",
}
MODES = {"w", "wb", "a", "ab", "x", "xb", "r+", "r+b", "w+", "w+b", "a+", "a+b"}
WRITING = {"replace", "rename", "renames", "link", "symlink", "copy", "copy2", "copyfile", "copytree", "move"}  # of os and shutil


def writes_of(path: Path) -> set[str]:
    """The calls that write: of `open` for writing, of methods of paths, of `os` and of `shutil`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        arguments = [ast.unparse(each.value if isinstance(each, ast.keyword) else each) for each in (*node.args, *node.keywords)]
        if (owner, name) == ("os", "open"):
            found |= {"os.open"} if "os.O_RDONLY" not in arguments[1] else set()
        elif name == "open":
            found |= {"open"} if any(mode.strip("'") in MODES for mode in arguments) else set()
        elif (owner in ("os", "shutil") and name in WRITING) or (
            name in ("write_text", "write_bytes") and owner not in ("", "files")
        ):
            found.add(name)
    return found


def test_files_are_written_by_the_one_primitive():
    found = {
        (path.relative_to(SRC).as_posix(), write)
        for path in SRC.rglob("*.py")
        if path.name != "files.py"
        for write in writes_of(path)
    }
    assert found == set(OTHERWISE), (
        "a file is written without polytag.files, which makes it whole under kill -9, a full disk, two writers and links. Use "
        f"files.write_bytes, write_text, NewFile or write_folder, or give the reason here: {sorted(found ^ set(OTHERWISE))}"
    )
