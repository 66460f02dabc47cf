"""What a training record is, and how records reach the trainer. Begin with `schema.py`: what a record holds.

Made: `making.py` puts a record together, `builders.py` writes records of TFDS builders, `clips.py` cuts them out of one
real clip; photos and clips of people are `mmjax.preparation`'s. Read: `sources.py` finds and checks what an experiment
names, `pipeline.py` makes shuffled, mixed, resumable batches of it. `empty_prompt.py` has the embedding of the empty
prompt that stands beside the records, `storage.py` how they lie in files.
"""
