"""Models on the Hugging Face hub: an address becomes a folder of the hub's cache, with the files that are read and no others.

What comes from the hub is a stranger's. Files are fetched by names of ours, up to a size, all of one commit; nothing in them is
run, and the readers of checkpoints and exports check every value. Imports no torch.
"""

import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from polytag.errors import HubError
from polytag.models.checkpoint_files import CONFIG, EXPORT, WEIGHTS
from polytag.parsing import MAX_JSON_BYTES, Malformed, parse_json, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.text import printable

EXPORT_FOLDER = "export"
"""Where an export lies in a repository, beside the checkpoint."""
MAX_WEIGHTS_BYTES = 8_000_000_000
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_ADDRESS = re.compile(rf"hf:/{{1,2}}(?P<repo>{_PART}/{_PART})(@(?P<revision>{_PART}(/{_PART})*?))?(?P<folder>/{EXPORT_FOLDER})?/?")
_COMMIT = re.compile("[0-9a-f]{40}")
_PATIENCE_SECONDS = 3.0
_NEXT_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token of an account that may"


@dataclass(frozen=True, kw_only=True)
class Address:
    """hf://owner/name[@revision][/export]: a model's repository, at a branch, a tag or a commit."""

    repo: str
    revision: str = "main"
    folder: str = ""

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://{self.repo}{revision}{'/' if self.folder else ''}{self.folder}"


def address_of(model: Path | str) -> Address | None:
    """The address on the hub; None for the path of a folder. A `Path` of an address has lost one of its slashes.

    Raises HubError for an address that is not complete.
    """
    text = model.as_posix() if isinstance(model, Path) else model
    if not text.startswith("hf:/"):
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None or any(".." in part or part.endswith(".git") for part in text.split("/")):
        raise HubError(
            "no address of a model on the hub",
            got=repr(text),
            expected="hf://owner/name, hf://owner/name@revision, or either with /export behind it",
        )
    return Address(repo=found["repo"], revision=found["revision"] or "main", folder=EXPORT_FOLDER if found["folder"] else "")


def local_folder(model: Path | str) -> Path:
    """The folder of a model: the path itself, or that of an address in the hub's cache, once its files are there.

    Of a commit that is in the cache, nothing is asked of the network; of a branch or a tag, its newest commit, and where the hub
    cannot be reached the one that the cache has. Raises HubError where a file is missing, too large or cannot be fetched.
    """
    address = address_of(model)
    if address is None:
        return Path(model)
    if not address.folder:
        config = fetch_file(address, CONFIG, max_bytes=MAX_JSON_BYTES)
        fetch_file(_at_commit(address, config), WEIGHTS, max_bytes=MAX_WEIGHTS_BYTES)
        return config.parent
    described = fetch_file(address, f"{EXPORT_FOLDER}/{EXPORT}", max_bytes=MAX_JSON_BYTES)
    address = _at_commit(address, described.parent)
    for name in _named_files(described):
        fetch_file(address, f"{EXPORT_FOLDER}/{name}", max_bytes=MAX_WEIGHTS_BYTES)
    return described.parent


def _at_commit(address: Address, file: Path) -> Address:
    """The same address at the commit of a file of the cache, so that all files are of one."""
    return Address(repo=address.repo, revision=file.parent.name, folder=address.folder)


def _named_files(described: Path) -> list[str]:
    """The files that export.json names, each with its SHA-256: the graphs."""
    try:
        values = from_plain(dict, parse_json(read_small_text(described)))
        names = list(from_plain(dict, values.get("files"), name="files"))
        for name in names:
            if not is_plain_name(name):
                raise WrongValue("files", name, expected="names of files in the folder")
    except (Malformed, WrongValue):
        return []  # `Exported.read` says what is wrong in it
    return names


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in a folder or in one inside it, without any way out of it."""
    return re.fullmatch(rf"{_PART}(/{_PART}){{0,2}}", name) is not None and ".." not in PurePosixPath(name).parts


def fetch_file(address: Address, name: str, *, max_bytes: int) -> Path:
    """A file of a repository, in the hub's cache; raises HubError where it is missing, too large or cannot be fetched."""
    import huggingface_hub as hub

    found = hub.try_to_load_from_cache(address.repo, name, revision=address.revision)
    cached = Path(found) if isinstance(found, str) else None
    if cached is not None and (_COMMIT.fullmatch(address.revision) or not hub_answers()):
        return cached
    if not hub_answers():
        raise HubError(
            "the hub cannot be reached, and its cache does not have this file",
            where=str(address),
            got=f"no answer from {endpoint()}" if not hub.constants.HF_HUB_OFFLINE else "HF_HUB_OFFLINE is set",
            expected=name,
            next_step="check the network, or fetch it once where there is one: the cache then has it",
        )
    url = hub.hf_hub_url(address.repo, name, revision=address.revision)
    with explained("the file cannot be fetched from the hub", address=address, doing="read it"):
        try:
            num_bytes = hub.get_hf_file_metadata(url).size
        except hub.errors.HfHubHTTPError as error:
            if cached is not None and error.response.status_code >= 500:
                return cached
            raise
        if num_bytes is None or num_bytes > max_bytes:
            raise HubError(
                "a file of the repository is too large",
                where=f"{address}, {name}",
                got="no size" if num_bytes is None else f"{num_bytes:,} bytes",
                expected=f"at most {max_bytes:,}",
                next_step="polytag does not fetch it; is this the repository of a model?",
            )
        return Path(hub.hf_hub_download(address.repo, name, revision=address.revision))


def endpoint() -> str:
    """The address of the hub, of $HF_ENDPOINT where that is set."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def hub_answers() -> bool:
    """Whether the hub takes connections, asked for three seconds: its client tries for a minute. Behind a proxy it is taken to."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The client warns of each of its tries, and draws its bars into log files too."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    log = logging.getLogger("huggingface_hub")
    level, is_silent = log.level, are_progress_bars_disabled() or sys.stderr.isatty()
    log.setLevel(logging.ERROR)
    if not is_silent:
        disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if not is_silent:
            enable_progress_bars()


@contextlib.contextmanager
def explained(what: str, *, address: Address, doing: str) -> Generator[None]:
    """Raises HubError for what the hub's client raises, with what to do next; `doing` is what an account needs the right to."""
    try:
        with _quiet():
            yield
    except HubError:
        raise
    except Exception as error:  # the client and its transport raise errors of many kinds
        got, expected, next_step = _advice(error, doing=doing)
        raise HubError(what, where=str(address), got=got, expected=expected, next_step=next_step) from error


def _advice(error: BaseException, *, doing: str) -> tuple[str, str, str]:
    """What was found, what was expected and what to do next."""
    from huggingface_hub import errors

    causes = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 5:
        causes.append(cause)
    answered = next((each for each in causes if isinstance(each, errors.HfHubHTTPError)), None)
    if answered is None:
        got = _without_token(f"{type(causes[-1]).__name__}: {causes[-1]}".splitlines()[0])
        return got, "a whole answer", "check the network and do it again"
    status = answered.response.status_code
    said = answered.server_message or ""
    got = f"HTTP {status}" + (f", {_without_token(said)}" if said else "")
    if isinstance(answered, errors.GatedRepoError):
        return got, "an account that its owner lets in", f"ask for access on its page, then {_NEXT_LOG_IN} {doing}"
    if isinstance(answered, errors.RevisionNotFoundError):
        return got, "a branch, a tag or a commit of the repository", "check what stands behind the @"
    if isinstance(answered, errors.EntryNotFoundError):
        return got, f"a repository with {CONFIG} and {WEIGHTS}, as `polytag push` makes", "check the name"
    if isinstance(answered, errors.RepositoryNotFoundError):
        return got, "a repository that you may see", f"check the name; if it is private, {_NEXT_LOG_IN} {doing}"
    if status == 401:
        return got, "a valid token", f"{_NEXT_LOG_IN} {doing}"
    if status == 403:
        return got, f"a token that may {doing}", f"{_NEXT_LOG_IN} {doing}: one with the role write"
    if status in (409, 412):
        return got, "nobody else who changes the repository meanwhile", "do it again"
    if status == 429:
        return got, "fewer requests", "wait some minutes, then do it again"
    if status >= 500:
        return got, "a hub that works", "its status page may say more; do it again later"
    return got, "an answer without an error", "check the name and the account"


def _without_token(text: str) -> str:
    """A server's words for a message, short and without the account's token, which it was sent."""
    from huggingface_hub import get_token

    token = get_token()
    return printable(text.replace(token, "***") if token else text)[:300]
