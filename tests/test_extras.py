"""A library that an extra brings is missing: the command that installs it is told; anything else that is missing stays a bug."""

import re
import tomllib
from pathlib import Path

import pytest

from polytag.errors import MissingExtraError
from polytag.extras import EXTRA_OF, explaining_missing_extras

ROOT = Path(__file__).resolve().parents[1]
NOT_IN_ALL = ("executorch", "open-clip", "tensorboard", "mlflow", "wandb")
MODULE_OF = {"open_clip_torch": "open_clip", "scikit-learn": "sklearn"}  # where it is not the distribution's name with underscores


def test_every_library_of_an_extra_is_known_and_no_other():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.pop("all")) == {f"polytag[{','.join(name for name in extras if name not in NOT_IN_ALL)}]"}
    names = {re.match(r"[\w-]+", requirement)[0]: extra for extra, listed in extras.items() for requirement in listed}
    assert {MODULE_OF.get(name, name.replace("-", "_")): extra for name, extra in names.items()} == EXTRA_OF


def test_the_command_that_installs_it_is_told():
    with pytest.raises(MissingExtraError) as caught, explaining_missing_extras():
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    assert str(caught.value) == ("this needs the extra 'train', which is not installed\n  next: pip install 'polytag[train]'")
    assert caught.value.exit_status == 1
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("name", ["numpy", "torch.nowhere", None])
def test_whatever_else_is_missing_is_not_explained_away(name: str | None):
    with pytest.raises(ModuleNotFoundError, match="gone"), explaining_missing_extras():
        raise ModuleNotFoundError("gone", name=name)
