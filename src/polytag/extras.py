"""Which extra of the package brings a library that the core does without.

The core reads data, judges, compares, chooses thresholds and writes reports. What else there is imports its libraries where it is
used, so a missing one shows as a ModuleNotFoundError there; `explaining_missing_extras` turns it into the command that installs it.
"""

from collections.abc import Generator
from contextlib import contextmanager

from polytag.errors import MissingExtraError

EXTRA_OF = {  # module: extra; the same as [project.optional-dependencies] of pyproject.toml, and a test compares the two
    "anyio": "web",
    "fastapi": "web",
    "pydantic": "web",
    "python_multipart": "web",
    "starlette": "web",
    "uvicorn": "web",
    "openpyxl": "excel",
    "huggingface_hub": "hub",
    "safetensors": "train",
    "sklearn": "train",
    "timm": "train",
    "torch": "train",
    "onnxruntime": "runtime",
    "openvino": "openvino",
    "nncf": "export",
    "onnx": "export",
    "onnxscript": "export",
    "executorch": "executorch",
    "open_clip": "open-clip",
    "fsspec": "remote",
    "av": "video",
    "ray": "ray",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
}


@contextmanager
def explaining_missing_extras() -> Generator[None]:
    """Raises MissingExtraError for the import of a library that an extra brings; any other missing module is left as it is."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        extra = EXTRA_OF[error.name]
        raise MissingExtraError(
            f"this needs the extra {extra!r}, which is not installed", next_step=f"pip install 'polytag[{extra}]'"
        ) from error
