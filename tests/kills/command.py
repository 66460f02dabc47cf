"""`python -m tests.kills.command NOTES ...`: `mmjax.train`, with a line in NOTES for each step: which records it takes.

A line is written at once and outlives the process. It comes before the step's checkpoint can be saved.
"""

import json
import os
import sys

from mmjax import cli, train
from mmjax.records.pipeline import NUMBERS
from mmjax.training.progress import Progress


def noted(notes: int):
    """`Progress.add`, with a line of JSON in an open file: the step, and the samples' source and record numbers."""
    add = Progress.add

    def noting(self, step, metrics, batch, *rest):
        line = json.dumps([step, *(batch[name].tolist() for name in NUMBERS)])
        os.write(notes, f"{line}\n".encode())
        return add(self, step, metrics, batch, *rest)

    return noting


if __name__ == "__main__":
    Progress.add = noted(os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    cli.run(train.main, train.define_flags)
