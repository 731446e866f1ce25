"""Silence for PyTorch's exporter and NNCF, which print their progress and warn of their own internals."""

import contextlib
import io
import logging
import warnings
from collections.abc import Generator

_LOGGERS = ("torch.onnx", "nncf")


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Nothing is printed, warned of or logged below an error meanwhile."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
