"""Models that were published on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.models.model_folder import FILES


def download(name: str, revision: str | None = None) -> Path:
    """The folder with the files of a model of the hub, from the hub or from what was downloaded before.

    revision: a commit, branch or tag; by default the newest.

    Only what an exported model consists of is fetched: weights as safetensors and text files, nothing that could be a
    program.

    Raises:
        XmrError: no such model, or a hub that cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # of the client that this version of it talks with

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except HFValidationError as error:
        raise XmrError(
            f"{name}: neither a folder that exists nor the name of a model on the Hugging Face hub, USER/MODEL"
        ) from error
    except (OSError, HTTPError) as error:  # the hub's own errors are OSErrors, a connection's are not
        reason = str(error).strip().splitlines()[0]
        raise XmrError(
            f"{name}: no folder of that name exists, and the Hugging Face hub does not give such a model"
            f"{f', revision {revision},' if revision else ''} ({reason}). "
            "Where it cannot be reached, copy the model's folder here and name that"
        ) from error
