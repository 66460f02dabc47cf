"""Trains an experiment, or goes on with one.

python -m mmjax.train --config configs/tiny.py
python -m mmjax.train --config configs/tiny.py --config.train.steps=200 --workdir runs/short
python -m mmjax.train --workdir runs/short        # goes on with the run that is there
python -m mmjax.train --workdir runs/short --config.train.steps=400      # on, with settings that may change
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags, logging

from mmjax import callable_command, cli, peers, processes
from mmjax.config import FISHERFACES, Experiment
from mmjax.errors import ConfigError
from mmjax.vae_experiment import VAEExperiment

if TYPE_CHECKING:
    from mmjax.evaluation.identity import SimilarityToPeople
    from mmjax.evaluation.of_samples import MetricsOfSamples
    from mmjax.records.sources import RecordFolders, Sources
    from mmjax.sampling import Preview
    from mmjax.training.evaluators import Evaluator
    from mmjax.training.state import TrainState

_GALLERY = 64  # held-out records whose people the samples are told from


def train(config: Experiment | VAEExperiment, workdir: str | Path, new_data_order: bool = False) -> "TrainState":
    """Trains an experiment in a workdir, or goes on with the run that is there; see `mmjax.training.loop.train`.

    With several processes (`jax.distributed`) all of them call this, and none goes on without the others: where one
    fails, the others end with its line and status 2 (`mmjax.peers`).

    Of a diffusion model: records of drawn people are made first, unless they are there; prepared ones are read, without
    any of the networks that encoded them. With `train.sample_every` clips of held-out people are sampled every so many
    steps, which needs the autoencoder's weights; with `train.identity_embedder` they are compared with the people's
    references. Of a VAE: held-out records are given back every `train.reconstruct_every` steps.

    Returns:
      The state after the last step, or at the step where a signal stopped the run.

    Raises:
      ConfigError, CheckpointError, DataError: settings, weights or records that cannot be used.
      MMJaxError: the loss is not finite any more.
    """
    from mmjax.training import loop

    config = config.validated()
    with peers.together():
        loop.check(config, workdir)  # before records are drawn or the autoencoder is read
        sources, evaluators = _OPENED[type(config)](config)
        return loop.train(config, workdir, sources, evaluators, new_data_order)


def _of_diffusion(config: Experiment) -> "tuple[Sources, list[Evaluator]]":
    from mmjax.records.sources import find_sources
    from mmjax.synthetic.builders import BUILDERS
    from mmjax.training.evaluators import SampleSheets

    sources = find_sources(config, BUILDERS)
    if not config.train.sample_every:
        return sources, []
    from mmjax.sampling import Preview

    preview = Preview(config, sources)
    similarity = _similarity(config, sources, preview) if config.train.identity_embedder else None
    metrics = _sample_metrics(config) if config.train.sample_metrics else None
    return sources, [SampleSheets(config.train.sample_every, preview, similarity, metrics)]


def _of_vae(config: VAEExperiment) -> "tuple[RecordFolders, list[Evaluator]]":
    from mmjax.records.sources import find_pixel_records
    from mmjax.training.reconstructions import Reconstructions

    sources = find_pixel_records(config.data)
    return sources, [Reconstructions(config, sources)]


_OPENED = {Experiment: _of_diffusion, VAEExperiment: _of_vae}  # (records, evaluators) of each kind of experiment


def _sample_metrics(config: Experiment) -> "MetricsOfSamples":
    """Raises `ConfigError` or `CheckpointError` for metrics, or a detector, that cannot be used."""
    from mmjax.evaluation.of_samples import MetricsOfSamples
    from mmjax.faces.detection import load_detector
    from mmjax.faces.packs import find_pack

    pack = config.encoders.face_models
    return MetricsOfSamples(config.train.sample_metrics, load_detector(find_pack(pack)) if pack else None)


def _similarity(config: Experiment, sources: "Sources", preview: "Preview") -> "SimilarityToPeople":
    """Who compares the preview's people with their references, and with those of as many as `_GALLERY` others.

    Raises:
      ConfigError, CheckpointError, ConversionError: an embedder that cannot be used.
      DataError: one that finds no face on the references.
    """
    from mmjax.encoders.recogniser import load_recogniser
    from mmjax.evaluation.identity import SimilarityToPeople
    from mmjax.records import pipeline

    name = config.train.identity_embedder
    if name == FISHERFACES:
        return _similarity_of_drawn_people(config, preview.source)
    recogniser = load_recogniser(name, config.encoders.face_models)
    others = pipeline.validation_records(config, sources, preview.source, _GALLERY)
    references = {str(record["person"]): record["reference"] for record in (*others, *preview.records)}
    part = _part_in_training(config, sources, recogniser.fingerprint)
    similarity = SimilarityToPeople(recogniser, references, independent=not part)
    setting = f"train.identity_embedder = {name}"
    if part:
        logging.warning("%s is %s: its figures, tagged %s/..., are NOT independent", setting, part, similarity.name)
    if similarity.unseen:
        said = "%s finds no face on the references of %d of %d people, such as %s: they are left out"
        logging.warning(said, setting, len(similarity.unseen), len(references), similarity.unseen[0])
    return similarity


def _similarity_of_drawn_people(config: Experiment, source: str) -> "SimilarityToPeople":
    """Fisherfaces, which know a person by scenes, as in the clips. Raises `ConfigError` for samples of other people."""
    from mmjax.evaluation.identity import SimilarityToPeople
    from mmjax.synthetic import builders, galleries

    if source not in (builders.DrawnImages.name, builders.DrawnClips.name):
        raise ConfigError(
            f"train.identity_embedder = {FISHERFACES}: expected samples of drawn people, whom alone it knows, found "
            f"{source}; give a model pack"
        )
    people = galleries.held_out_people(config, frames=galleries.PICTURES)
    return SimilarityToPeople(galleries.fit_recogniser(config), {person.name: person.frames for person in people})


def _part_in_training(config: Experiment, sources: "Sources", fingerprint: str) -> str:
    """What the recogniser with this fingerprint has to do in the training that it is to judge; empty for nothing."""
    from mmjax.encoders.embedders import part_in_training

    return part_in_training(fingerprint, sources.encoders["face"], config.loss.identity)


def define_flags() -> None:
    """The command line's own flags, beside those of `mmjax.cli`."""
    cli.define_path("workdir", None, "Folder of the run; default runs/NAME, the experiment's name.")
    flags.DEFINE_bool(
        "new_data_order",
        False,
        "Go on with a run whose records cannot come in the order they had: made anew, or shuffled by another Grain.",
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0 when there are several; auto: ask the cluster (TPU pod, Slurm, MPI).",
    )
    flags.DEFINE_integer("processes", None, "How many processes there are, with --coordinator HOST:PORT.")
    flags.DEFINE_integer("process", None, "This process's number, from 0, with --coordinator HOST:PORT.")
    flags.DEFINE_float(
        "start_timeout", processes.START_TIMEOUT, "Seconds in which all processes have to be there.", lower_bound=1
    )


def main() -> None:
    """Reads the experiment, then starts JAX."""
    given = flags.FLAGS
    launch = (given.coordinator, given.processes, given.process)
    processes.check_launch(*launch)
    config = cli.training_experiment(given.workdir)
    cli.keep_compiled_programs(given.compilation_cache)
    processes.start(*launch, given.start_timeout)
    with peers.together():
        processes.check_platform()  # from here on devices are touched
        train(config, given.workdir or Path("runs") / config.name, given.new_data_order)


callable_command(__name__)

if __name__ == "__main__":
    with peers.leaving_at_once():
        cli.run(main, define_flags)
