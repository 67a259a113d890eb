"""Packages that only some commands need, and that are installed by name: pyproject.toml's extras."""

from __future__ import annotations

from importlib.util import find_spec

from xmr_e2e.errors import XmrError

EXTRAS = {
    "serve": ("fastapi", "starlette", "uvicorn", "python_multipart", "faiss"),
    "onnx": ("onnx", "onnx_ir", "onnxscript", "onnxruntime"),
    "deepspeed": ("deepspeed",),
    "parquet": ("pyarrow",),
    "timm": ("timm",),
    "lora": ("peft",),
    "media": ("av", "trimesh"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "datasets": ("datasets",),
    "sentence-transformers": ("sentence_transformers",),
    "mteb": ("mteb", "datasets", "sentence_transformers"),
}
"""extra -> the modules that its packages bring"""


def has_extra(extra: str) -> bool:
    """True where all of an extra's modules are installed; none is imported."""
    return not _missing(extra)


def require_extra(extra: str, needed_by: str) -> None:
    """Look whether an extra is installed, without importing it; to be called before any work is done.

    Args:
        needed_by: the command or option that a person has given.

    Raises:
        XmrError: a module of it is missing; says what to install.
    """
    missing = _missing(extra)
    if missing:
        raise XmrError(
            f"{needed_by} needs what is not installed ({', '.join(missing)}): pip install 'xmr-e2e[{extra}]', or "
            f"'.[{extra}]' in the project's folder"
        )


def _missing(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if find_spec(name) is None]
