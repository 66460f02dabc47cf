"""The model card of a shipped model: its README.md, all of it from what the files say of themselves."""

from collections.abc import Mapping, Sequence

from mmjax import outputs
from mmjax.weights.shipped import PARTS, ShippedRecord, file_name

CARD = "README.md"
_PARTS = {"vae": "video autoencoder", "base": "diffusion transformer", "adapter": "face branch and adapter"}


def model_card(name: str, record: ShippedRecord, counts: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """The card as Markdown.

    Args:
      name: of the model, which is its folder's.
      counts, sizes: parameters and bytes of each part.
    """
    about, origin = record.about, record.origin
    data, sampling = origin.config.data, origin.config.sampling
    frames = " and ".join(map(str, sorted(set(data.frames))))
    made_with = ", ".join(f"{package} {version}" for package, version in origin.versions.items())
    return "\n".join(
        [
            f"# {name}",
            "",
            about.summary or f"MagicMirror, trained by mmjax ({origin.config.name}).",
            "",
            f"Videos of {frames} frames of {data.height} x {data.width} pixels, {data.fps} a second; by default "
            f"{sampling.steps} steps of {sampling.sampler}, guidance {sampling.guidance:g}.",
            "",
            *_table(record, counts, sizes),
            *_section("Use", [about.use] if about.use else []),
            *_section("Data", about.data),
            *_section("Licence", [origin.licence]),
            *_section("Figures", about.figures),
            *_section("Limits", about.limits),
            *_section("How it was made", [f"`{command}`" for command in about.commands]),
            f"Step {origin.step}, {'averaged' if origin.weights == 'ema' else 'raw'} weights. {made_with}.",
            "The experiment's settings are in the files' metadata.",
            "",
            f"<!-- {outputs.MARK}.convert -->",
            "",
        ]
    )


def _table(record: ShippedRecord, counts: Mapping[str, int], sizes: Mapping[str, int]) -> list[str]:
    lines = ["| file | what | parameters | bytes | kept as | rounding error |", "|---|---|---|---|---|---|"]
    for part in PARTS:
        cells = (f"`{file_name(part)}`", _PARTS[part], f"{counts[part]:,}", f"{sizes[part]:,}", record.dtypes[part])
        lines.append(f"| {' | '.join(cells)} | {record.rounding[part]:.2%} |")
    return [*lines, ""]


def _section(title: str, entries: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {entry}" for entry in entries), ""] if entries else []
