"""`push_model`: a checkpoint as a repository of the hub that timm and polytag load, compared with timm's model of it before."""

import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polytag import files
from polytag.errors import ExportError, HubError, UsageError
from polytag.export.card import card, license_of
from polytag.export.images import NUM_COMPARED, images_of_run, some
from polytag.export.measured import measured
from polytag.export.readme import readme
from polytag.export.timm_config import Compared, compare_with_timm, hub_config_text, without_path
from polytag.models.checkpoint import CARD, Checkpoint
from polytag.models.checkpoint_files import CONFIG, EXPORT, WEIGHTS
from polytag.models.exported import README, SELFTEST, Exported
from polytag.models.hub import EXPORT_FOLDER, Address, address_of, endpoint, explained, fetch_file, hub_answers
from polytag.parsing import Malformed, parse_yaml, read_small_text

_MAX_CARD_BYTES = 1_000_000
_MAX_FRONT_MATTER = 100_000
_EVERY = 4  # of the images that an export is compared on: here one network is compared with itself, as timm makes it
_WHAT = "the model cannot be pushed to the hub"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What is on the hub now.

    url         of the commit
    files       their names in the repository with their numbers of bytes
    compared    with timm's model of these files; None where timm has no such head
    license     what the card says; "" where it says none
    is_new      whether the repository was made; is_same whether it had all of this already, so that no commit was made
    """

    address: Address
    url: str
    files: tuple[tuple[str, int], ...]
    compared: Compared | None
    license: str
    is_new: bool
    is_same: bool


@dataclass(frozen=True, kw_only=True)
class _Repository:
    """A repository as it is before the push."""

    commit: str
    names: tuple[str, ...]
    is_private: bool


def push_model(
    model: Checkpoint | Path | str,
    to: str,
    *,
    private: bool = False,
    export: Path | str | None = None,
    license: str = "",
    on_image: Callable[[int], None] = lambda num_images: None,
) -> Pushed:
    """Put a checkpoint, or a run's best, on the hub: "hf://owner/name", or "hf://owner/name@branch".

    The repository is made where there is none, `private` or not. It gets config.json, which timm's "hf-hub:owner/name" reads too,
    model.safetensors and a model card, and below export/ the `export` of the same checkpoint, if one is given. Files of these names
    are replaced, an export of an earlier push is removed, all in one commit: the whole of it is there, or nothing. `license` is a
    name such as "apache-2.0"; without one the card keeps what it says on the hub. `on_image` is called after each image that timm's
    model was compared on. A model with a head that timm does not have is for polytag alone: config.json then has nothing for timm,
    and the card says so.

    Raises UsageError for an address or a license that is none; HubError where the hub refuses or cannot be reached, where timm's
    model has other logits, by more than 0.00001, and for a public repository with `private`; ExportError for an export of another
    model.
    """
    address = _writable(to)
    if license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", license):
        raise UsageError("not the name of a license", where="--license", got=repr(license), expected="a name such as apache-2.0")
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.read(model)
    if checkpoint.own_backbone is not None:
        raise UsageError(
            "a model with a backbone of its user's own cannot be pushed: nobody could load it",
            where=str(checkpoint.folder),
            got=str(checkpoint.own_backbone),
            expected="a backbone of timm",
            next_step="share an export of it: polytag export MODEL OUT --parts FILE.py",
        )
    exported = _same_model(Exported.read(export), checkpoint) if export is not None else None
    _require_account(address)
    before = _repository(address)
    _require_as_private(before, private=private, address=address)
    said = {"license": license} if license else _present_license(address, before)
    with tempfile.TemporaryDirectory(prefix="polytag-push-") as name:
        folder = Path(name)
        compared = _write_model(folder, checkpoint, on_image=on_image)
        run, has_export = measured(checkpoint), exported is not None
        text = card(checkpoint, address=address, measured=run, compared=compared, license=said, has_export=has_export)
        files.write_text(folder / CARD, text)
        names = [CONFIG, WEIGHTS, CARD, *(_write_export(folder, exported) if exported else ())]
        url, is_same = _commit(address, folder, names, checkpoint=checkpoint, before=before, private=private)
        return Pushed(
            address=address,
            url=url,
            files=tuple((name, (folder / name).stat().st_size) for name in names),
            compared=compared,
            license=said.get("license", ""),
            is_new=before is None,
            is_same=is_same,
        )


def _writable(to: str) -> Address:
    address = address_of(to)
    if address is None or address.folder or re.fullmatch("[0-9a-f]{40}", address.revision):
        raise UsageError("no place on the hub", got=repr(to), expected="hf://owner/name, or hf://owner/name@branch")
    return address


def _require_account(address: Address) -> None:
    """What would fail at the end fails first: without an account, and without a network."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            "no account of the hub is known here",
            where=str(address),
            expected="a token with the role write",
            next_step="log in with `hf auth login`, or set HF_TOKEN",
        )
    if not hub_answers():
        raise HubError(
            "the hub cannot be reached",
            where=endpoint(),
            expected="a network",
            next_step="check it, then push again: nothing is there yet",
        )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), library_name="polytag")


def _repository(address: Address) -> _Repository | None:
    """None where there is none, or none that this account sees."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with explained(_WHAT, address=address, doing="write to it"):
        try:
            info = _api().repo_info(address.repo, revision=address.revision)
        except RepositoryNotFoundError:
            return None
    names = tuple(each.rfilename for each in info.siblings or ())
    return _Repository(commit=info.sha or "", names=names, is_private=bool(info.private))


def _require_as_private(before: _Repository | None, *, private: bool, address: Address) -> None:
    if private and before is not None and not before.is_private:
        raise HubError(
            "the repository is public, so nothing is pushed with --private",
            where=str(address),
            expected="a new name, or a private repository",
            next_step="make it private on its page, or push without --private",
        )


def _present_license(address: Address, before: _Repository | None) -> dict[str, str]:
    """What the card on the hub says of the license, so that a push does not undo it."""
    if before is None or CARD not in before.names:
        return {}
    path = fetch_file(replace(address, revision=before.commit), CARD, max_bytes=_MAX_CARD_BYTES)
    try:
        found = re.match(r"---\n(.*?)\n---\n", read_small_text(path), re.DOTALL)
        values = parse_yaml(found[1]) if found and len(found[1]) <= _MAX_FRONT_MATTER else None
    except Malformed:
        return {}
    return license_of(values) if isinstance(values, dict) else {}


def _write_model(folder: Path, checkpoint: Checkpoint, *, on_image: Callable[[int], None]) -> Compared | None:
    """config.json and model.safetensors, once timm's model of them, if timm has it, has answered as the checkpoint's."""
    own = checkpoint.load_model()
    files.write_bytes(folder / WEIGHTS, checkpoint.read_weights())
    num_features = int(own.num_features)  # pyright: ignore[reportArgumentType]  every timm model has it
    files.write_text(folder / CONFIG, hub_config_text(checkpoint, num_features=num_features))
    if checkpoint.head != "linear":
        return None
    paths = some(images_of_run(checkpoint.folder.parent, classes=checkpoint.label_set), NUM_COMPARED).paths[::_EVERY]
    return compare_with_timm(folder, checkpoint, own, paths=paths, on_image=on_image)


def _same_model(exported: Exported, checkpoint: Checkpoint) -> Exported:
    """The export; raises ExportError unless it decides as the checkpoint does."""
    theirs = (exported.id, exported.calibration_id, exported.label_set, exported.thresholds)
    if theirs != (checkpoint.id, checkpoint.calibration_id, checkpoint.label_set, checkpoint.thresholds):
        raise ExportError(
            "the export is of another model, or of other thresholds",
            where=str(exported.folder),
            got=f"checkpoint {exported.id}, calibration {exported.calibration_id or 'none'}",
            expected=f"checkpoint {checkpoint.id}, calibration {checkpoint.calibration_id or 'none'}, and its thresholds",
            next_step="export it again: polytag export MODEL OUT",
        )
    return exported


def _write_export(folder: Path, exported: Exported) -> list[str]:
    """The files of an export below export/; of what it was compared on the name is left, not the path. Returns their names."""
    described = {
        name: replace(file, checked=replace(file.checked, of=without_path(file.checked.of)), quantized=without_path(file.quantized))
        for name, file in exported.files.items()
    }
    public = replace(exported, files=described)
    contents = {name: exported.file(name) for name in exported.files}
    selftest = exported.folder / SELFTEST
    contents |= {f"{SELFTEST}/{path.name}": path.read_bytes() for path in sorted(selftest.glob("*")) if path.is_file()}
    for name, content in contents.items():
        _require_no_paths(content, where=exported.folder / name)
    contents |= {EXPORT: public.text().encode(), README: readme(public).encode()}
    for name, content in contents.items():
        path = folder / EXPORT_FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
    return [f"{EXPORT_FOLDER}/{name}" for name in sorted(contents)]


def _require_no_paths(content: bytes, *, where: Path) -> None:
    """Raises ExportError for a file that names folders of this machine, as the graphs of earlier versions did."""
    for folder in (sys.prefix, str(Path.home())):
        if len(folder) > 1 and folder.encode() + b"/" in content:
            raise ExportError(
                "a file of the export names folders of this machine, so nothing is pushed",
                where=str(where),
                got=folder,
                expected="an export of this version",
                next_step="export it again: polytag export MODEL OUT",
            )


def _commit(
    address: Address,
    folder: Path,
    names: Sequence[str],
    *,
    checkpoint: Checkpoint,
    before: _Repository | None,
    private: bool,
) -> tuple[str, bool]:
    """Make the repository if there is none, and put the files there; the commit's address, and whether all was there already."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    gone = [] if before is None else [name for name in before.names if name.startswith(f"{EXPORT_FOLDER}/") and name not in names]
    operations += [CommitOperationDelete(path_in_repo=name) for name in gone]
    with explained(_WHAT, address=address, doing="write to it"):
        api = _api()
        if before is None:
            api.create_repo(address.repo, private=private, exist_ok=True)
        done = api.create_commit(
            address.repo,
            operations,
            commit_message=f"Checkpoint {checkpoint.id}",
            commit_description="Pushed by polytag, after timm was compared with the checkpoint."
            if checkpoint.head == "linear"
            else "Pushed by polytag.",
            revision=address.revision,
            parent_commit=before.commit if before else None,
        )
    return str(done.commit_url), before is not None and done.oid == before.commit
