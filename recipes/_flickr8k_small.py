"""The small setting that all recipes on Flickr8k share: two cores train it in minutes, without pretrained weights.

No paper has Flickr8k, and Flickr8k has no classes: the table (image, split, label) is the user's, such as
preprocessing.caption_labels makes from words of the captions. Such labels are weak: a text can give its label away, a
picture cannot.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from xmr_e2e import Augment, Data, Experiment, Optimizer, Schedule, Train
from xmr_e2e.methods import MethodConfig
from xmr_e2e.towers import ImageTower, MeanWords

SLIM = ImageTower("resnet10_slim", weights="none")
FEATURES: dict[str, Any] = {"image": ImageTower("efficientnet_lite0"), "text": MeanWords(weighting="idf")}
"""towers whose features methods in closed form take as they are"""


def small(name: str, method: MethodConfig) -> Experiment:
    """A recipe's configuration, for pictures of 96 pixels and words of captions."""
    return Experiment(
        name=name,
        data=Data(
            Path("data/shards/flickr8k"),
            image_size=96,
            load_size=112,
            max_tokens=80,
            augment=Augment(min_area=0.5, color=0.2),
        ),
        method=method,
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=8, batch_size=100),
    )


def on_features(name: str, method: MethodConfig) -> Experiment:
    """The same for towers that stand still, at the size of pictures that EfficientNet-Lite0 was trained on."""
    plain = small(name, method)
    return replace(plain, data=replace(plain.data, image_size=224, load_size=256, max_tokens=300))
