"""Training on prepared records. Begin with `loop.py`, which reads from top to bottom: build, step, log, evaluate, save.

`step.py` is the training step on one page, `state.py` what it changes and what it leaves frozen, `optimizer.py` its
update rule; `evaluators.py` has what is done every so many steps, `best.py` which of its figures chooses a checkpoint.
Around them: `batches`, `compiled` (the step for each shape of batch), `progress` and `telemetry` (figures), `summary`,
`checkpoints`, `signals`; `resuming` says what may change when a run is resumed.
"""
