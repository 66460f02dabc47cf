"""How a preparation is spread: worker processes of one machine, and several processes that share an output folder.

Begin with `work.py`, the folder in which is noted what is done. `waiting.py` waits for the other processes and notices
those that ended; `gpus.py` gives each process a GPU of its own. `pool.py` runs tasks in worker processes, whose own
side is `worker.py`.
"""
