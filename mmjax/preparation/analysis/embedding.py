"""Who is on the stills: embeddings, computed in batches in the main process, and windows where the person changes."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from mmjax.faces.embeddings import cosine_similarity
from mmjax.faces.quality import Embed
from mmjax.faces.reference_check import SAME_PERSON
from mmjax.preparation.items import Dropped, Finding


def with_embeddings(findings: Sequence[Finding], embed: Embed) -> list[Finding]:
    """Findings whose stills have their embeddings, without windows of several people."""
    aligned = [still.aligned for finding in findings for still in finding.stills]
    embeddings = iter(embed(np.stack(aligned)) if aligned else ())
    return [without_changes(_embedded(finding, embeddings)) for finding in findings]


def without_changes(finding: Finding) -> Finding:
    """The finding without windows in which one person gives way to another: a cut that colours did not betray."""
    wrong = {}
    for sample in finding.samples:
        seen = [still.embedding for still in finding.stills if still.key == sample.key]
        if (cosine := cosine_similarity(seen, seen).min()) < SAME_PERSON:
            wrong[sample.key] = float(cosine)
    if not wrong:
        return finding
    shown = dict(zip((sample.key for sample in finding.samples), finding.pictures, strict=True))
    kept = [sample for sample in finding.samples if sample.key not in wrong]
    return dataclasses.replace(
        finding,
        samples=tuple(kept),
        pictures=tuple(shown[sample.key] for sample in kept),
        stills=tuple(still for still in finding.stills if still.key not in wrong),
        dropped=(*finding.dropped, *(_dropped(key, cosine, shown[key]) for key, cosine in wrong.items())),
    )


def _embedded(finding: Finding, embeddings: Iterator[np.ndarray]) -> Finding:
    stills = [dataclasses.replace(still, embedding=next(embeddings)) for still in finding.stills]
    return dataclasses.replace(finding, stills=tuple(stills))


def _dropped(key: str, cosine: float, picture: np.ndarray) -> Dropped:
    detail = f"expected one person throughout, found two faces whose embeddings have a cosine of {cosine:.2f}"
    return Dropped(key, "several_people", detail, cosine, picture)
