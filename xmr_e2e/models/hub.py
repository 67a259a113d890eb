"""Models on the Hugging Face hub: fetched by their names, and uploaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.models.model_folder import FILES, LIBRARY, OFFERED_FILES
from xmr_e2e.received import first_line, own_path

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(@(?P<revision>[\w./-]+))?")
_FORM = "the name of a model on the Hugging Face hub, USER/MODEL"
_REASONS = {
    401: "it does not take the token: log in again with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: it needs the role write, and a name begins with your own or an organization's "
    "of yours",
    404: "it has nothing of that name, or it is private and the token may not see it: `hf auth login`, or HF_TOKEN",
}
"""HTTP status -> what to do"""


def is_hub_name(given: str | Path) -> bool:
    """True for USER/MODEL and USER/MODEL@REVISION; not where USER is a folder here: then it is a path, right or wrong,
    and nobody is asked for it."""
    name = str(given)
    return _NAME.fullmatch(name) is not None and not Path(name.partition("/")[0]).is_dir()


def find_model(given: str | Path) -> Path:
    """The folder itself, or the one of a model of the hub, USER/MODEL or USER/MODEL@REVISION, downloaded.

    Raises:
        XmrError: no such model on the hub, or a hub that cannot be reached.
    """
    if not is_hub_name(given):
        return Path(given)
    repository, _, revision = str(given).partition("@")
    return download(repository, revision or None)


def find_published(name: str | Path, revision: str | None = None) -> Path:
    """The folder of this name, or that of a model of the hub, downloaded, whatever else is here.

    Raises:
        XmrError: no such model, a hub that cannot be reached, or a revision of a folder.
    """
    if not Path(name).is_dir():
        return download(str(name), revision)
    if revision is not None:
        raise XmrError(f"{name} is a folder, and revisions are of models on the Hugging Face hub: leave it out")
    return Path(name)


def require_place(given: str | Path, place: Path | None, option: str) -> None:
    """Raise XmrError for a model of the hub without a place for what otherwise lies in a run's folder."""
    if place is None and is_hub_name(given):
        raise XmrError(
            f"{given} is taken for {_FORM}, and nothing of yours lies beside such a one: name a place with {option}. "
            f"If it is meant for a folder, there is none of that name"
        )


def download(name: str, revision: str | None = None, **options: Any) -> Path:
    """The folder with the files of a model of the hub, from the hub or from what was downloaded before.

    revision: a commit, branch or tag; by default the newest.
    options: of `snapshot_download`.

    Only what an exported model consists of is fetched: weights as safetensors and text files, nothing that could be a
    program.

    Raises:
        XmrError: no such model, or a hub that cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # of the client that this version of it talks with

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), **options))
    except HFValidationError as error:
        raise XmrError(f"{name}: neither a folder that exists nor {_FORM}") from error
    except (OSError, HTTPError) as error:  # the hub's own errors are OSErrors, a connection's are not
        raise XmrError(
            f"{name}: no folder of that name exists, and the Hugging Face hub does not give such a model"
            f"{f', revision {revision},' if revision else ''} ({_reason(error)}). "
            "Where it cannot be reached, copy the model's folder here and name that"
        ) from error


def require_uploads(name: str) -> None:
    """Look whether something can be uploaded under a name at all: before any work is done.

    Raises:
        XmrError: no name of the hub's form, no token or one that the hub does not take, or a hub that cannot be
            reached.
    """
    from huggingface_hub import HfApi, get_token

    if (found := _NAME.fullmatch(name)) is None or found["revision"]:
        raise XmrError(f"{name} is not {_FORM}, such as someone/birds; USER is you or an organization of yours")
    with _asking(name):
        if get_token() is None:
            raise XmrError(f"{name}: there is no token for the Hugging Face hub: `hf auth login`, or set HF_TOKEN")
        HfApi().whoami()


def upload(folder: Path, name: str, *, private: bool = False, revision: str | None = None) -> str:
    """Put an exported model on the hub, in a repository that is made where there is none; what of an earlier model is
    there and not in this one goes.

    revision: a branch, which is made where there is none; by default main.

    Returns:
        the address of the commit.

    Raises:
        XmrError: `require_uploads`' reasons, a repository of others, one that is public where `private` is wanted, or a
            link in the folder.
    """
    from huggingface_hub import HfApi

    _refuse_links(folder)
    with _asking(name):
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        if private and not api.model_info(name).private:
            raise XmrError(f"{name} is there already, and public: nothing was uploaded. Make it private there first")
        if revision:
            api.create_branch(name, branch=revision, exist_ok=True)
        files = [*FILES, *OFFERED_FILES]
        return str(
            api.upload_folder(
                repo_id=name,
                folder_path=folder,
                revision=revision,
                commit_message=f"A model of {LIBRARY}",
                allow_patterns=files,
                delete_patterns=files,
            ).commit_url
        )


def _refuse_links(folder: Path) -> None:
    """Raise XmrError for a link among the files that would be uploaded: it could lead to any file."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if any(fnmatch(name, pattern) for pattern in (*FILES, *OFFERED_FILES)):
            own_path(folder, name)


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Errors of the hub's library, of which there are many kinds, as one."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise XmrError(f"{name}: the Hugging Face hub: {_reason(cause)}") from error


def _reason(error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RevisionNotFoundError

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so that it is not asked; unset it"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HTTPError) and status is None:
        return f"it cannot be reached: {first_line(error)}"
    if isinstance(error, (GatedRepoError, RevisionNotFoundError)) or status not in _REASONS:
        return _lines(error)
    return f"{_REASONS[status]} ({first_line(error)})"


def _lines(error: BaseException) -> str:
    """The first two lines that say something, as one."""
    lines: Sequence[str] = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return first_line(ValueError(" ".join(lines[:2]) or type(error).__name__))
