"""Photos of TFDS data sets that are prepared on this machine, in the ArrayRecord format; nothing is downloaded.

TensorFlow Datasets takes seconds to import, and only these functions need it: each imports it.
"""

import functools
import os
from pathlib import Path

from mmjax.errors import DataError
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected

_PERSON = ("person", "identity", "name", "label", "subject", "person_id", "label_id")
_CAPTION = ("caption", "text", "description")


def list_examples(name: str, collection: str) -> list[Item]:
    """One item for each example of every split, in order.

    Args:
      name: of the data set, with its configuration and version where there are several ("lfw", "lfw:0.1.1",
        "celeb_a/config:2.1.0"), or its prepared folder.
      collection: the input's name in this preparation.

    The first feature that is an image is the photo. A feature of a person's name or number (`person`, `identity`,
    `name`, `label`, ...) says who is on it, one named `caption`, `text` or `description` is the caption.

    Raises:
      DataError: not prepared, in another file format, or without images; says what to do.
    """
    builder = _builder(name)
    image, person, caption = _features(builder, name)
    folder, items = os.fspath(builder.data_dir), []
    for split, info in sorted(builder.info.splits.items()):
        if not info.num_examples:
            continue
        examples = _labels(builder, split, image) if person or caption else ({} for _ in range(info.num_examples))
        for index, example in enumerate(examples):
            shown = _text(builder.info.features[person], example[person]) if person else ""
            words = _text(builder.info.features[caption], example[caption]) if caption else ""
            items.append(
                Item(
                    key=f"{split}/{index:07d}",
                    kind="photo",
                    path=folder,
                    collection=collection,
                    offset=index,
                    dataset=f"{split}/{image}",
                    caption=words.strip() or None,
                    person=f"{collection}/{shown}" if shown else None,
                )
            )
    return items


def short_name(name: str) -> str:
    """The data set's name alone: "lfw" of "lfw:0.1.1" and of "/data/lfw/0.1.1"."""
    path = Path(name)
    return path.resolve().parent.name if path.is_dir() else name.partition(":")[0].replace("/", "_")


def read_example(folder: str, dataset: str, index: int) -> bytes:
    """The encoded picture of an example. `dataset` is "SPLIT/FEATURE". Raises `Rejected` where it is damaged."""
    split, _, feature = dataset.partition("/")
    try:
        return _source(folder, split, feature)[index][feature]
    except Exception as error:  # the readers below raise whatever comes to hand
        raise Rejected("unreadable", f"example {index} of {split} does not read ({error})") from error


@functools.lru_cache(maxsize=4)
def _source(folder, split, feature):
    import tensorflow_datasets as tfds

    return _without_pixels(tfds.builder_from_directory(folder), split, feature)


def _without_pixels(builder, split, feature):
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, decoders={feature: tfds.decode.SkipDecoding()})


def _labels(builder, split, image):
    source = _without_pixels(builder, split, image)
    return (source[index] for index in range(len(source)))


def _builder(name: str):
    """TFDS's reader of what is prepared; its code and its download are not searched for."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    try:
        find = tfds.builder_from_directory if Path(name).is_dir() else read_only_builder.builder_from_files
        builder = find(name)
    except Exception as error:
        raise DataError(_not_prepared(name)) from error
    found = builder.info.file_format.value
    if found != "array_record":
        raise DataError(
            f"{name}: expected ArrayRecord files, which are read at random places, found {found}; prepare it again "
            "with `tfds build --file_format=array_record`, or convert it with `tfds convert_format`"
        )
    return builder


def _not_prepared(name: str) -> str:
    from tensorflow_datasets.core.utils import file_utils

    places = ", ".join(map(str, file_utils.list_data_dirs()))
    return (
        f"{name}: expected a data set that TFDS prepared, by its name in {places} (TFDS_DATA_DIR says where), or by "
        "its folder, which is named like a version, such as 1.0.0, and has a dataset_info.json; found none. Prepare it "
        f"with `tfds build {short_name(name)} --file_format=array_record`, which downloads it"
    )


def _features(builder, name) -> tuple[str, str, str]:
    """Names of the features with the photo, the person and the caption; the latter two may be empty."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        found = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
        raise DataError(f"{name}: expected a feature of the type Image, found {found}; use another data set")
    person = next((key for key in _PERSON if key in features), "")
    caption = next((key for key in _CAPTION if key in features and isinstance(features[key], tfds.features.Text)), "")
    return images[0], person, caption


def _text(feature, value) -> str:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
