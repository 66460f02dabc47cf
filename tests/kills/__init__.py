"""Training that is killed at random moments: is what it leaves always whole, and the end the same?

`python -m tests.kills --count 50 --seed 0` trains a small model (pictures and clips mixed, an adapter on a frozen base,
an average, two workers that read records, a checkpoint every few steps), kills it 50 times with SIGKILL while it
starts, trains or saves, and each time looks at what is left: the last checkpoint must be whole and not older than the
one before, and no worker may stay behind. At the end state, data position, logged figures and the records of every step
must be those of a run that nobody killed, bit for bit. CI runs a short version (`tests/training/test_train_cli.py`).

`command` is the training command with a note of the records of each step, `killing` starts, kills and looks.

`python -m tests.kills.terminating --config FILE` measures how long a run takes from SIGTERM to its end, saved.
"""
