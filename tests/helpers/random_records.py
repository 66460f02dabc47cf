"""Prepared records of any size, of random numbers: what training reads where no encoder is at hand."""

from pathlib import Path

from mmjax import config as c
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records.making import description
from mmjax.records.schema import record_fields
from tests.helpers import tiny_run


def write(folder: Path, config: c.Experiment, count: int = 8, encoders: dict[str, str] | None = None) -> Path:
    """A folder of `count` records to train on and as many held out, of the frames of the experiment's first source.

    Args:
      encoders: fingerprints of those that are said to have made them, by default what the experiment expects.
    """
    frames, rows = config.data.frames[0], tiny_run.batch(config, count)
    made = [{name: value[number] for name, value in rows.items()} for number in range(count)]
    made = [each | {"person": f"p{n}", "caption": "A woman img", "source": "photos"} for n, each in enumerate(made)]
    for split in ("train", "validation"):
        write_shard(shard_path(folder, split, 0), made, record_fields(config, frames))
    about = description(config, frames)
    about |= {"encoders": encoders or about["encoders"]}
    shards = {"train": [count], "validation": [count]}
    return finish_dataset(folder, "random", config, frames, about, shards, rows["text"][0])
