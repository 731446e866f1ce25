"""web/ of an export: a static page that labels images in the browser, with ONNX Runtime Web and the graph beside it."""

import json
from collections.abc import Callable
from pathlib import Path

from polytag.export.npm import ONNXRUNTIME_WEB, Package, files_of
from polytag.models.exported import IMAGE, Exported, sha256

WEB = "web"
_SOURCE = Path(__file__).with_name("web")
_CARDS = Path(__file__).parents[1] / "web" / "cards"
_PALETTE = Path(__file__).parents[1] / "report" / "templates" / "palette.css"
_SCRIPT, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
_RUNTIME_FOLDER = "onnxruntime-web"


def runtime_files(
    *, package: Package = ONNXRUNTIME_WEB, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, bytes]:
    """What the page needs of ONNX Runtime Web, by its name in web/; raises FetchError where it cannot be fetched.

    `on_progress` receives the bytes that have arrived and their total.
    """
    contents = files_of(package, (_SCRIPT, _WASM), on_progress=on_progress)
    return {f"{_RUNTIME_FOLDER}/{name.rpartition('/')[2]}": content for name, content in contents.items()}


def web_files(exported: Exported, *, image_graph: bytes, runtime: dict[str, bytes]) -> dict[str, bytes]:
    """Every file of web/ by its name in it; `image_graph` is the content of image.onnx, `runtime` that of `runtime_files`."""
    pages = {name: (_SOURCE / name).read_bytes() for name in ("index.html", "page.css", "page.js", "worker.js")}
    cards = {name: (_CARDS / name).read_bytes() for name in ("cards.css", "cards.js", "take-files.js")}
    cards["cards.css"] = _PALETTE.read_bytes() + cards["cards.css"]
    loaded = {IMAGE: image_graph} | {name: content for name, content in runtime.items() if name.endswith(".wasm")}
    model = {
        "checkpoint": exported.id,
        "calibration": exported.calibration_id,
        "classes": list(exported.label_set),
        "thresholds": list(exported.thresholds),
        "files": {name: {"bytes": len(content), "sha256": sha256(content)} for name, content in loaded.items()},
    }
    text = json.dumps(model, indent=1, allow_nan=False) + "\n"
    return {**pages, **cards, "model.json": text.encode(), IMAGE: image_graph, **runtime}
