"""How records lie in files: TFDS features of the record schema, stored as plain bytes. No TensorFlow."""

import tensorflow_datasets as tfds

from mmjax.records.schema import STRINGS, Field, stored_dtype


def record_features(fields: dict[str, Field]) -> tfds.features.FeaturesDict:
    """TFDS features of records with these arrays (`schema.record_fields`) and the strings of `schema.STRINGS`."""
    arrays = {name: _tensor(field) for name, field in fields.items()}
    return tfds.features.FeaturesDict(arrays | {name: tfds.features.Text() for name in STRINGS})


def _tensor(field: Field) -> tfds.features.Tensor:
    """Stored as plain bytes: lists of numbers would be three times as slow to read."""
    return tfds.features.Tensor(shape=field.shape, dtype=stored_dtype(field), encoding=tfds.features.Encoding.BYTES)
