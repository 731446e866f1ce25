"""Stand-ins for umap-learn: a package `umap` that a process finds before the real one."""

from pathlib import Path

import pytest

_CLASS = """
class UMAP:
    def __init__(self, *, metric, random_state, n_jobs, tqdm_kwds):
        assert (metric, random_state, n_jobs) == ("cosine", 0, 1)
        self.file = tqdm_kwds["file"]

    def fit_transform(self, feature_ND):
"""
PRINTS = (
    _CLASS
    + """
        print("places")
        self.file.write("\\r3 4  ")
        self.file.write("\\n")
        return feature_ND[:, :2]
"""
)
ENDLESS = (
    _CLASS
    + """
        import os, pathlib, time
        (pathlib.Path(__file__).parent.parent / "number").write_text(str(os.getpid()))
        self.file.write("\\r1 4")
        time.sleep(600)
"""
)
FAILS = (
    _CLASS
    + """
        raise ValueError(f"{__file__} has\\ntoo few neighbours")
"""
)
DIES = (
    _CLASS
    + """
        import os
        os.kill(os.getpid(), 9)
"""
)
MISFIT = 'raise ImportError("Numba needs NumPy 1.0 or less")'


def stand_in(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import umap` be this code, in this process and in those that it starts."""
    (folder / "umap").mkdir(exist_ok=True)
    (folder / "umap" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
