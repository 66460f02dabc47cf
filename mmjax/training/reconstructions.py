"""How well a VAE gives back people whom it was not trained on: PSNR, SSIM and a sheet to look at."""

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mmjax import media
from mmjax.encoders.pixel import Pixel
from mmjax.records.schema import Record
from mmjax.records.sources import RecordFolders
from mmjax.training import vae_evaluation
from mmjax.training.evaluators import Evaluation
from mmjax.training.state import TrainState
from mmjax.trees import Tree
from mmjax.vae_experiment import VAEExperiment

_SHOWN = 4  # records of each source on the sheet
_FRAMES = 3  # of a clip, on the sheet


class Reconstructions:
    """An `Evaluator`: the averaged weights, the posterior's mean, decoded as the product does, on held-out records.

    Figures are means over a source's records, PSNR and SSIM each of a whole record, and the mean over the sources.
    """

    name = "reconstructions"

    def __init__(self, config: VAEExperiment, sources: RecordFolders):
        self.every = config.train.reconstruct_every
        self._config, self._sources = config, sources
        self._measures = {"psnr": media.psnr} | ({"ssim": _ssim} if importlib.util.find_spec("skimage") else {})
        names = ("", *(f"/{Path(name).name}" for name in config.data.sources))
        self.higher_is_better = {f"{self.name}{name}/{tag}": True for name in names for tag in self._measures}

    def __call__(self, state: TrainState, step: int) -> Evaluation:
        found, rows, clip = [], [], None
        with vae_evaluation.on_one_device(state.params()) as params:
            for index, name in enumerate(self._config.data.sources):
                count = self._config.train.reconstruct_count
                records = vae_evaluation.spread_records(self._sources, index, "validation", count)
                real, made = self._reconstructed(params, records, self._config.data.batches[index])
                found.append(
                    {
                        tag: float(np.mean([measure(*pair) for pair in zip(made, real, strict=True)]))
                        for tag, measure in self._measures.items()
                    }
                )
                rows += [_row(*pair, Path(name).name) for pair in zip(real, made, strict=True)][:_SHOWN]
                clip = _beside(real, made) if real.shape[1] > 1 else clip
        return Evaluation(self._figures(found), self._line(found), self._sheet(rows, step), clip)

    def _reconstructed(self, params: Tree, records: list[Record], size: int):
        """(uint8 videos [records, F, H, W, 3] as they are, as the VAE gives them back)."""
        vae, precision, real, made = self._config.vae, self._config.precision, [], []
        for pixels, latents in vae_evaluation.encode(vae, precision, params["encoder"], records, size):
            real.append(Pixel().decode(pixels))
            made.append(vae_evaluation.decode(vae, precision, params["decoder"], latents, size))
        return np.concatenate(real), np.concatenate(made)

    def _figures(self, found: list[dict[str, float]]) -> dict[str, float]:
        names = [Path(name).name for name in self._config.data.sources]
        by_source = {
            f"{self.name}/{name}/{tag}": value
            for name, figures in zip(names, found, strict=True)
            for tag, value in figures.items()
        }
        return by_source | {
            f"{self.name}/{tag}": float(np.mean([each[tag] for each in found])) for tag in self._measures
        }

    def _line(self, found: list[dict[str, float]]) -> str:
        said = []
        for name, figures in zip(self._config.data.sources, found, strict=True):
            ssim = f", SSIM {figures['ssim']:.4f}" if "ssim" in figures else ""
            said.append(f"{Path(name).name} {figures['psnr']:.2f} dB{ssim}")
        return f"held-out records given back: {'; '.join(said)}"

    def _sheet(self, rows: list[media.SheetRow], step: int) -> UInt8[np.ndarray, "h w 3"]:
        return media.contact_sheet(rows, title=f"{self._config.name}, step {step}: people not trained on, given back")


def _row(real: UInt8[np.ndarray, "F h w 3"], made: UInt8[np.ndarray, "F h w 3"], source: str) -> media.SheetRow:
    cells = []
    for frame in media.spread(_FRAMES, len(real)):
        of = "" if len(real) == 1 else f" {frame}"
        cells += [(f"real{of}", real[frame]), (f"given back{of}", made[frame])]
    return media.SheetRow(cells, f"{source}: {media.psnr(made, real):.1f} dB")


def _beside(real: UInt8[np.ndarray, "n F h w 3"], made: UInt8[np.ndarray, "n F h w 3"]) -> UInt8[np.ndarray, "F H W 3"]:
    """The first clips, each beside what became of it."""
    return media.side_by_side(np.concatenate([real[:_SHOWN], made[:_SHOWN]], axis=3))


def _ssim(made: UInt8[np.ndarray, "F h w 3"], real: UInt8[np.ndarray, "F h w 3"]) -> float:
    """Structural similarity (Wang et al., 2004), the mean over the frames, by scikit-image with its defaults."""
    from skimage.metrics import structural_similarity

    return float(np.mean([structural_similarity(*pair, channel_axis=-1) for pair in zip(made, real, strict=True)]))
