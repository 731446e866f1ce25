"""TensorBoard: event files in the run folder; `tensorboard --logdir runs` shows all runs."""

from collections.abc import Mapping
from importlib.util import find_spec

from polytag.runs.folder import RunFolder
from polytag.training.tracking.contents import Params


class TensorBoardTracker:
    """A Tracker. A resumed run goes on in the same folder."""

    name = "tensorboard"

    def __init__(self):
        if find_spec("tensorboard") is None:  # PyTorch's own error does not say which module is missing
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer_of = SummaryWriter

    def open(self, run: RunFolder, *, name: str, tracker_id: str) -> str:
        self._params: dict[str, str | int | float] = {}
        self._writer = self._writer_of(str(run.tensorboard))
        return ""

    def describe(self, params: Params) -> None:
        self._params |= params
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._params.items())
        self._writer.add_text("run", f"| | |\n| --- | --- |\n{rows}")
        self._writer.flush()

    def log(self, numbers: Mapping[str, float], *, epoch: int) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, epoch)
        self._writer.flush()

    def result(self, numbers: Mapping[str, float]) -> None:
        self._writer.add_hparams(self._params, dict(numbers), run_name=".")

    def close(self, *, is_finished: bool) -> None:
        self._writer.close()
