"""From pairs to records on disk. Begin with `encoding.py`, which makes records in batches.

`shard_contents.py` says which record goes into which shard, `pixels.py` reads the samples again, `shards.py` writes
shards and makes data sets of them.
"""
