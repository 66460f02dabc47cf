"""Whether weights are of the model that is to use them: the one check, for bases, adapters and whole runs."""

from mmjax import config as c
from mmjax.errors import CheckpointError
from mmjax.validation import settings_of


def check_same_model(found: c.Model, expected: c.Model, what: str) -> None:
    """Refuses weights of another model (`CheckpointError`), naming each setting that differs.

    All of `config.Model` counts: what does not decide what weights are stands in `config.Runtime`.
    """
    found, expected = settings_of(found), settings_of(expected)
    wrong = [
        f"  model.{name}: the weights have {found[name]}, the experiment {expected[name]}"
        for name in found
        if found[name] != expected[name]
    ]
    if wrong:
        raise CheckpointError(f"{what} is another model:\n" + "\n".join(wrong))
