"""A server of a small model, for all tests of the room: a checkpoint, its export, and the application behind its guard."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from polytag.export.selftest import generated_images
from polytag.models.exported import Exported
from polytag.serve.run import ServeConfig, Serving
from polytag.web.request_rules import GuardConfig


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    """Generated images of different sizes."""
    contents: list[bytes] = []
    for image in generated_images():
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


@pytest.fixture(scope="session")
def serve_live(live: Callable[..., Any]) -> Callable[..., AbstractContextManager[Any]]:
    """`with serve_live(folder, token=..., max_waiting=...) as (server, serving)`: a server at a free port, without its process."""

    @contextmanager
    def running(folder: Path, *, port: int = 0, guard: dict[str, Any] | None = None, **config: Any) -> Iterator[Any]:
        serving = Serving(folder, ServeConfig(**config), guard_config=lambda **own: GuardConfig(**{**own, **(guard or {})}))
        serving.start()
        try:
            with live(serving.guard, port=port) as server:
                yield server, serving
        finally:
            serving.close()

    return running


@pytest.fixture(scope="module")
def server(serve_live: Callable[..., Any], small_export: Exported) -> Iterator[Any]:
    """A server of the export."""
    with serve_live(small_export.folder) as (running, _):
        yield running
