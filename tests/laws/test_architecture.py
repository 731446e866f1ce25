"""The rules of the house, each as a test whose failure explains the rule."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "polytag"
LAYERS = (
    {
        "allocator",
        "calibration",
        "contracts",
        "download",
        "errors",
        "extras",
        "files",
        "logits",
        "machine",
        "own_parts",
        "parsing",
        "plain",
        "text",
    },
    {"data", "metrics", "models"},
    {"predictions", "report", "runs", "web"},
    {"inference"},
    {"export", "inspector", "serve", "training"},
    {"bench", "demo"},
    {"cli"},
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
MODULES = sorted(path for path in SRC.rglob("*.py") if path.parent != SRC or path.stem in LAYERS[0])
TORCH_FREE_ROOMS = (*sorted(LAYERS[0]), "data", "metrics", "predictions", "report", "runs")


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports inside polytag are written out (from polytag.room.module import name)"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_run_one_way(path: Path):
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "polytag" or len(parts) < 2 or parts[1] not in LAYER_OF or parts[1] == room:
            continue
        is_ground = {room, parts[1]} <= LAYERS[0]
        allowed = LAYER_OF[parts[1]] < LAYER_OF[room] or is_ground
        assert allowed, (
            f"{path.relative_to(SRC)} imports {name}: imports run one way, "
            f"{' <- '.join('/'.join(sorted(rooms)) for rooms in LAYERS)}; "
            "rooms of one layer do not import each other. Move what is shared to the left, or the caller to the right."
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_modules_are_short_and_named_for_what_they_hold(path: Path):
    assert path.stem not in {"utils", "helpers", "common", "manager", "legacy"}, f"{path}: say what it holds"
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= 400, f"{path.relative_to(SRC)} has {num_lines} lines: past 400 a module is split"


@pytest.mark.parametrize("room", sorted({path.parent for path in MODULES} - {SRC}), ids=lambda path: str(path.relative_to(SRC)))
def test_a_room_says_in_a_sentence_what_it_does_and_no_more(room: Path):
    tree = ast.parse((room / "__init__.py").read_text())
    assert ast.get_docstring(tree), f"{room.name}/__init__.py holds one sentence: what this stage does"
    assert len(tree.body) == 1, f"{room.name}/__init__.py holds its docstring alone; import modules by their full name"


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines())


def module_name(path: Path) -> str:
    return ".".join(("polytag", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


def test_reading_evaluating_and_reporting_never_import_torch():
    names = [module_name(path) for path in MODULES if room_of(path) in TORCH_FREE_ROOMS] + ["polytag.models.checkpoint"]
    assert "torch" not in modules_after("import " + ", ".join(sorted(names)))


def test_evaluating_never_imports_scipy_special():
    """Which takes a tenth of a second of processor time, for two functions of a few lines each."""
    assert "scipy.special" not in modules_after(
        "import polytag.cli.evaluate, polytag.metrics.evaluate, polytag.predictions.read, polytag.predictions.thresholds"
    )


def test_no_two_files_import_each_other_in_a_circle():
    """Late imports count too: what has to be imported late to avoid a circle stands in the wrong file."""
    names = {module_name(path): path for path in SRC.rglob("*.py")}
    arrows = {
        name: {parent for found in imports_of(path) for parent in (found, found.rpartition(".")[0]) if parent in names} - {name}
        for name, path in names.items()
        if name != "polytag"
    }
    on_the_way: list[str] = []
    done: set[str] = set()

    def walk(name: str) -> None:
        assert name not in on_the_way, "a circle of imports: " + " -> ".join([*on_the_way[on_the_way.index(name) :], name])
        if name in done or name not in arrows:
            return
        on_the_way.append(name)
        for other in sorted(arrows[name]):
            walk(other)
        on_the_way.pop()
        done.add(name)

    for name in sorted(arrows):
        walk(name)


def test_help_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['polytag', '--help']\nfrom polytag.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "polytag.cli.main" in loaded
    assert not {"torch", "numpy", "pyarrow", "altair", "timm", "sklearn", "PIL"} & set(loaded)


def test_importing_does_nothing(tmp_path: Path):
    script = "import polytag, polytag.training.train, polytag.cli.main, logging; assert not logging.getLogger().handlers"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])


def test_the_public_names_are_these():
    import polytag

    assert polytag.__all__ == sorted(polytag.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    for name in polytag.__all__:
        assert getattr(polytag, name).__doc__, f"polytag.{name} is public: it has a docstring"
    with pytest.raises(AttributeError, match="module 'polytag' has no attribute 'trian'"):
        polytag.trian  # noqa: B018
