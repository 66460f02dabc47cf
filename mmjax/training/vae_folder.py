"""A run that trained a VAE as the converted folder that `autoencoder.weights` takes, as published weights become one.

    python -m mmjax.convert vae --source RUN --output DIR
    python -m mmjax.convert vae --source DIR --output DIFFUSERS --reverse

The averaged weights of a checkpoint, in float32 or cast, with the scaling factor that was measured of them: at the end
of the run, or of another checkpoint here, which takes the run's records.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np

from mmjax import trees
from mmjax.conversion import plans
from mmjax.conversion.plans import Report
from mmjax.conversion.vae import COMPONENT
from mmjax.encoders.fingerprints import hash_leaves
from mmjax.errors import ConversionError
from mmjax.model_settings import VAE
from mmjax.models.build import Params
from mmjax.records.sources import find_pixel_records
from mmjax.training import latent_scale
from mmjax.training.tasks.vae import abstract_params
from mmjax.vae_experiment import VAEExperiment
from mmjax.weights import base as bases
from mmjax.weights import parameters, runs
from mmjax.weights.component_of_run import write_component


def convert_run(
    source: str | Path,
    output: str | Path,
    *,
    step: int | str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes the VAE of a run into a folder that `load_component` and `load_autoencoder` read.

    Args:
      source: the run's workdir.
      step: of the checkpoint, or "best"; by default the last one's.
      dtype: "float32" or "bfloat16" casts; by default float32, as it was trained.
      overwrite: replace what mmjax converted there before.

    Raises:
      CheckpointError: a run without a checkpoint, or a damaged one. ConversionError: a run that trained no VAE, or an
        output that is taken. DataError: the scaling factor has to be measured and the run's records are not there.
    """
    began, source, output = time.monotonic(), Path(source), Path(output)
    config, target = runs.read_experiment(source), plans.dtype_of(dtype)
    if not isinstance(config, VAEExperiment):
        raise ConversionError(
            f"{source}: expected a run that trains a VAE, found one of a diffusion model, {config.name}; its adapter "
            f"is exported with python -m mmjax.convert adapter --source {source} --output FILE.safetensors"
        )
    plans.not_onto_itself(source, output)
    step = parameters.complete_step(source, step)
    params = parameters.load_part(source, abstract_params(_trained_whole(config), bases.one_device()), step)
    record, note = _record(source, config, params, step)
    values = {path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()}
    return write_component(
        COMPONENT.name,
        record,
        params,
        output,
        source={"name": f"{config.name}, step {step}", "sha256": {f"{step}": hash_leaves(record, values)}},
        began=began,
        dtype=target,
        overwrite=overwrite,
        notes=(f"{config.name}, step {step}", note),
    )


def _record(source: Path, config: VAEExperiment, params: Params, step: int) -> tuple[VAE, str]:
    """The VAE's sizes with its scaling factor, and what to say of that."""
    scale, where = latent_scale.read(source, step), "at the end of the run"
    if scale is None:
        scale, where = latent_scale.measure(config, params["encoder"], find_pixel_records(config.data)), "now"
    record = dataclasses.replace(
        config.vae,
        scaling_factor=scale.factor,
        sample_height=config.data.height,
        sample_width=config.data.width,
    )
    return record, f"scaling factor {scale.factor:.6g}, measured {where} of {scale.records} training records"


def _trained_whole(config: VAEExperiment) -> VAEExperiment:
    """The experiment with all of its weights in float32, also those that it keeps frozen."""
    return dataclasses.replace(config, precision=dataclasses.replace(config.precision, frozen="float32"))
