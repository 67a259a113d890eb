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
BY_HAND: dict[str, tuple[tuple[str, ...], str]] = {
    "trackio": (
        ("trackio", "gradio_client", "orjson", "brotli", "starlette", "uvicorn", "python_multipart"),
        "pip install --no-deps trackio gradio-client orjson brotli, and 'xmr-e2e[serve]'",
    ),
    **{name: ((name,), f"pip install {name}") for name in ("comet_ml", "aim", "clearml", "dvclive", "swanlab")},
}
"""package without an extra -> its modules, and how to get them: trackio asks for other versions of what this project
needs, and the others are tested by nobody here"""


def has_extra(extra: str) -> bool:
    """True where all of an extra's modules are installed; none is imported."""
    return not _missing(extra)


def require_extra(extra: str, needed_by: str) -> None:
    """Look whether an extra is installed, without importing it; to be called before any work is done.

    Args:
        extra: or a package of `BY_HAND`.
        needed_by: the command or option that a person has given.

    Raises:
        XmrError: a module of it is missing; says what to install.
    """
    missing = _missing(extra)
    if missing:
        _, by_hand = BY_HAND.get(extra, ((), ""))
        how = by_hand or f"pip install 'xmr-e2e[{extra}]', or '.[{extra}]' in the project's folder"
        raise XmrError(f"{needed_by} needs what is not installed ({', '.join(missing)}): {how}")


def _missing(extra: str) -> list[str]:
    modules = EXTRAS[extra] if extra in EXTRAS else BY_HAND[extra][0]
    return [name for name in modules if find_spec(name) is None]
