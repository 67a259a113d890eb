"""The model card: what a stranger who finds the model has to know, for people and for the Hugging Face hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from huggingface_hub import EvalResult, ModelCardData

from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import markdown, one_line
from xmr_e2e.evaluation.figures import direction_title
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.models.sentence_transformer_files import encoded_modalities
from xmr_e2e.similarity import Similarity

SHOWN = ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10", "MedR")
CLASSES_SHOWN = 40
_EXAMPLES = {
    "pixels": 'model.embed_images(["photo.jpg"])',
    "tokens": 'model.embed_texts(["a dog in the snow"])',
    "waveform": 'model.embed_audio(["bark.wav"])',
    "frames": 'model.embed_video(["clip.mp4"])',
    "points": 'model.embed_shapes(["chair.off"])',
    "vector": 'model.embed_features("{modality}", features)  # (n, {width})',
}
_NOT_MEASURED = "None are known of these weights."
_RELEVANT_BY_LABEL = (
    "Relevant in these figures is what shares a class label with the query (mAP, NDCG), or belongs to the same sample "
    "(R@K, MedR); the labels are those of the dataset named above, however it came by them."
)
_RELEVANT_BY_PAIR = "Relevant in these figures is what belongs to the same sample as the query."
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,59}")
_NO_LICENSE = (
    "None is set: whoever publishes the model chooses one (`license:` in the metadata above), with an eye on the terms "
    "of the training data and of the weights that the networks began with."
)


@dataclass(frozen=True)
class Publication:
    """The terms under which a model is published, and its name."""

    license: str | None = None
    """by the hub's identifier, such as apache-2.0, cc-by-nc-4.0 or other"""
    name: str | None = None
    """on the hub, USER/MODEL"""

    def __post_init__(self) -> None:
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise XmrError(
                f"--license {self.license}: the hub's identifiers have small letters, digits, - and ., such as "
                "apache-2.0, mit, cc-by-4.0 or other"
            )


class CardModel(Protocol):
    """The properties of a saved model that its card tells."""

    config: MethodConfig
    data: Data
    classes: tuple[str, ...]
    widths: dict[str, int]
    method: Method
    selection: str

    @property
    def similarity(self) -> Similarity: ...


def model_card(
    model: CardModel,
    evaluations: Sequence[EvaluationResult],
    notes: Sequence[str],
    publication: Publication = Publication(),
) -> str:
    """README.md with its YAML metadata.

    Args:
        evaluations: of the run.
        notes: what a reader must know of the data.
    """
    method = model.config.title
    datasets = sorted({evaluation.dataset for evaluation in evaluations})
    metadata = ModelCardData(
        library_name="xmr_e2e",
        license=publication.license,
        pipeline_tag="feature-extraction",
        tags=[
            "cross-modal-retrieval",
            *(f"{name}-retrieval" for name in model.method.modalities),
            _slug(method.lower()),
            *(["sentence-transformers"] if encoded_modalities(model) else []),
        ],
        datasets=[_slug(dataset) for dataset in datasets] or None,
        metrics=sorted({one_line(name) for evaluation in evaluations for _, name, *_ in _rows(evaluation)}) or None,
        model_name=one_line(f"{method} on {', '.join(datasets)}" if datasets else method),
        eval_results=[result for evaluation in evaluations for result in _results(evaluation, notes)] or None,
    )
    sections = [
        f"# {markdown(str(metadata.model_name))}",
        _introduction(model),
        "## Use\n\n" + _usage(model, publication.name or "FOLDER OR USER/MODEL"),
        "## Figures\n\n" + ("\n\n".join(map(_metrics, evaluations)) or _NOT_MEASURED),
        "## What to know\n\n"
        + "\n".join(f"- {note}" for note in (*map(markdown, notes), *_remarks(model, evaluations))),
        "## License\n\n" + _terms(publication.license),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _introduction(model: CardModel) -> str:
    module = sys.modules[type(model.config).__module__]
    about = next(iter((module.__doc__ or "").splitlines()), model.config.title)
    if model.config.citation:
        about += f"\n\nThe method is of: {markdown(model.config.citation)}."
    towers = "\n".join(
        f"- {modality}: {type(tower).__name__}{_named(tower)}, reads {tower.input_kind}"
        for modality, tower in model.config.towers.items()
    )
    modalities = " and ".join(model.method.modalities)
    return (
        f"A model for cross-modal retrieval: it brings {modalities} into one space, where the {model.similarity} "
        f"similarity tells what belongs together. Weights: {markdown(model.selection)}.\n\n{about}\n\n{towers}"
    )


def _named(tower: Any) -> str:
    name = getattr(tower, "name", "")
    return f" ({markdown(name.rpartition('/')[2])})" if name else ""


def _terms(license: str | None) -> str:
    if license is None:
        return _NO_LICENSE
    return (
        f"{markdown(license)}, chosen by whoever published the model. The terms of the training data, and of the "
        "weights that the networks began with, may say more."
    )


def _usage(model: CardModel, name: str) -> str:
    lines = [
        *_foreign_imports(model),
        "import xmr_e2e",
        "",
        f'model = xmr_e2e.load("{name}")',
    ]
    for modality, source in model.method.input_kinds.items():
        if source in _EXAMPLES:
            lines.append(_EXAMPLES[source].format(modality=modality, width=model.widths.get(modality)))
    code = "```python\n" + "\n".join(lines) + "\n```"
    pinned = "From the hub, `USER/MODEL@COMMIT` gives the same model tomorrow. Loading it runs no code of its own."
    return "\n\n".join([code, pinned, *_in_sentence_transformers(model, name)])


def _in_sentence_transformers(model: CardModel, name: str) -> list[str]:
    known = " and ".join(f"{modality}s" for modality in encoded_modalities(model))
    if not known:
        return []
    return [
        f"With this package installed, sentence-transformers embeds {known}, too: "
        f'`SentenceTransformer("{name}", trust_remote_code=True)`, which trusts the class that `modules.json` names.'
    ]


def _foreign_imports(model: CardModel) -> list[str]:
    """Lines that import the modules of a method or towers that are not of this package; nothing else does."""
    modules = {type(each).__module__ for each in (model.config, *model.config.towers.values())}
    own = __name__.partition(".")[0]
    return [f"import {name}  # of whoever made this model" for name in sorted(modules) if name.partition(".")[0] != own]


def _metrics(evaluation: EvaluationResult) -> str:
    """One evaluation as a table, beside random rankings."""
    protocol = evaluation.protocol
    heading = f"{evaluation.dataset}, {evaluation.split} split, protocol {protocol.name if protocol else 'clean'}"
    if protocol:
        heading += f", gallery {protocol.gallery}"
    lines = [*map(markdown, (f"{heading}; {evaluation.selection}.", *_cautions(evaluation))), ""]
    lines += ["| direction | figure | model | random |", "|---|---|---:|---:|"]
    lines += [
        f"| {markdown(direction)} | {markdown(name)} | {value:.4f} | {'–' if random is None else f'{random:.4f}'} |"
        for direction, name, value, random in _rows(evaluation)
    ]
    return "\n".join(lines)


def _cautions(evaluation: EvaluationResult) -> list[str]:
    """The reasons for which a figure is not one of clean data, right labels and the clean protocol."""
    noise = [f"Trained with wrong labels: {evaluation.label_noise}."] if evaluation.label_noise else []
    return [*evaluation.leaks, *noise, *(evaluation.protocol.differences if evaluation.protocol else ())]


def _rows(evaluation: EvaluationResult) -> Iterator[tuple[str, str, float, float | None]]:
    """Direction, name, figure of the model and of random rankings."""
    sides = evaluation.metrics
    for direction, metrics in sides.model.directions.items():
        floor = sides.random.directions[direction].scores if direction in sides.random.directions else {}
        for name in SHOWN:
            if name in metrics.scores:
                yield direction_title(direction), name, metrics.scores[name], floor.get(name)


def _results(evaluation: EvaluationResult, notes: Sequence[str]) -> list[EvalResult]:
    """For `model-index`; what a figure is worth stands beside it: the protocol, and that of random rankings."""
    return [
        EvalResult(
            task_type="feature-extraction",
            task_name="cross-modal retrieval",
            dataset_type=_slug(evaluation.dataset),
            dataset_name=one_line(evaluation.dataset),
            dataset_config=_measured_by(evaluation),
            dataset_split=evaluation.split,
            dataset_args=_measured(evaluation, notes),
            metric_type=one_line(name),
            metric_name=one_line(f"{name}, {direction}"),
            metric_value=round(value, 6),
            metric_args=None if random is None else {"random_ranking": round(random, 6)},
        )
        for direction, name, value, random in _rows(evaluation)
    ]


def _measured_by(evaluation: EvaluationResult) -> str:
    """The protocol, and the gallery where it is not the split itself: figures of two galleries are two datasets'."""
    protocol = evaluation.protocol
    name, gallery = (protocol.name, protocol.gallery) if protocol else ("clean", evaluation.split)
    return one_line(f"protocol {name}" + (f", gallery {gallery}" if gallery != evaluation.split else ""))


def _measured(evaluation: EvaluationResult, notes: Sequence[str]) -> dict[str, Any]:
    relevant = _RELEVANT_BY_LABEL if evaluation.metrics.model.is_labeled else _RELEVANT_BY_PAIR
    about = {"selection": one_line(evaluation.selection), "relevance": relevant}
    said = {"cautions": _cautions(evaluation), "notes_on_training_data": notes}
    return about | {name: [one_line(each) for each in lines] for name, lines in said.items() if lines}


def _remarks(model: CardModel, evaluations: Sequence[EvaluationResult]) -> Iterator[str]:
    if evaluations:
        labeled = any(evaluation.metrics.model.is_labeled for evaluation in evaluations)
        yield _RELEVANT_BY_LABEL if labeled else _RELEVANT_BY_PAIR
    yield _learned_classes(model) if model.config.needs_labels else "It learned from pairs alone, without labels."
    kinds = model.method.input_kinds.values()
    yield from (remark for kind, remark in _reading(model.data).items() if kind in kinds)


def _reading(data: Data) -> dict[InputKind, str]:
    """The part of an item that is read."""
    audio = data.audio
    return {
        "pixels": f"Of a picture it sees the centred square, resized to {data.load_size} pixels and cut to the middle "
        f"{data.image_size}.",
        "tokens": f"Of a text it reads the first {data.max_tokens} tokens.",
        "waveform": f"Of a sound it hears {audio.windows} evenly spaced windows of {audio.seconds:g} seconds, at "
        f"{audio.rate} samples per second.",
        "frames": f"Of a video it sees {data.video.frames} evenly spaced frames, their centred squares, resized to "
        f"{data.frame_load_size} pixels and cut to the middle {data.video.size}.",
        "points": f"Of a shape it sees {data.shape3d.points} points on its surface, always the same ones; where its "
        "axes point matters.",
    }


def _learned_classes(model: CardModel) -> str:
    classes = markdown(", ".join(map(str, model.classes[:CLASSES_SHOWN])))
    more = f", … ({len(model.classes)} in all)" if len(model.classes) > CLASSES_SHOWN else ""
    return f"It learned to tell these classes apart, and little else can be expected of it: {classes}{more}."


def _slug(dataset: str) -> str:
    """The name of a dataset without what is said of it in brackets, as the hub's metadata want it."""
    return re.sub(r"[^\w.-]+", "-", dataset.partition(" (")[0]).strip("-")
