"""The table of planted faults."""

from tests.planted_faults.adapter import MAGICMIRROR
from tests.planted_faults.diffusion import DIFFUSION
from tests.planted_faults.layers import LAYER_PARTS
from tests.planted_faults.objectives import OBJECTIVES
from tests.planted_faults.preparation import PREPARATION
from tests.planted_faults.reading import READING
from tests.planted_faults.training import SAMPLING, TRAINING
from tests.planted_faults.transformer import BASE
from tests.planted_faults.writing import WRITING

FAULTS = (
    DIFFUSION + PREPARATION + LAYER_PARTS + BASE + MAGICMIRROR + TRAINING + OBJECTIVES + SAMPLING + READING + WRITING
)
