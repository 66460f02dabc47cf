"""The key-value store of `jax.distributed`, for processes that are threads of a test."""

import threading


class Store:
    """What `Peers` asks of JAX's store; `gone` as if process 0 were."""

    def __init__(self):
        self.values, self.gone, self.changed = {}, False, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            self._check()
            assert allow_overwrite or key not in self.values, key
            self.values[key] = value
            self.changed.notify_all()

    def key_value_dir_get(self, key):
        with self.changed:
            self._check()
            return [(name, value) for name, value in self.values.items() if name.startswith(key)]

    def key_value_try_get(self, key):
        with self.changed:
            self._check()
            if key not in self.values:
                raise RuntimeError(f"NOT_FOUND: Config key {key} not found.")
            return self.values[key]

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, milliseconds / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED: nobody said it")
            return self.values[key]

    def _check(self):
        if self.gone:
            raise RuntimeError("UNAVAILABLE: Socket closed")
