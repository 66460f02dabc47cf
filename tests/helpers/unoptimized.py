"""Import the fixture into a module of tests, and its programs are compiled in half the time."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def unoptimized():
    """For tests that ask what programs compute and not how fast: XLA leaves most of its optimizations out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
