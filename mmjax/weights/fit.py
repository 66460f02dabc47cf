"""Whether weights are of the model that is to use them: the one check, for bases, adapters and whole runs."""

import dataclasses

from mmjax import config as c
from mmjax.errors import CheckpointError

COMPUTED_OTHERWISE = ("attention", "remat", "stream")  # settings of a transformer that its weights do not depend on


def check_same_model(found: c.Model, expected: c.Model, what: str) -> None:
    """Refuses weights of another model (`CheckpointError`), naming each setting that differs."""
    wrong = [
        f"  model.{part}.{field.name}: the weights have {getattr(mine, field.name)}, the experiment "
        f"{getattr(theirs, field.name)}"
        for part, mine, theirs in (
            ("transformer", found.transformer, expected.transformer),
            ("adapter", found.adapter, expected.adapter),
        )
        for field in dataclasses.fields(mine)
        if field.name not in COMPUTED_OTHERWISE and getattr(mine, field.name) != getattr(theirs, field.name)
    ]
    if wrong:
        raise CheckpointError(f"{what} is another model:\n" + "\n".join(wrong))
