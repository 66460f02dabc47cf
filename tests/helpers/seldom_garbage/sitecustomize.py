"""Python reads this as it starts: what tests start collects garbage as seldom as they do (`tests/conftest.py`)."""

import gc

gc.set_threshold(100_000, 20, 10)
