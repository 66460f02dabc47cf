"""The table of the identity loss's gain, from the figures that runs leave."""

import json

import pytest

from tests import identity_gain


def test_the_table_has_the_last_figures_and_the_mean_difference(tmp_path):
    found = {}
    for seed in (0, 1):
        for weight in (0.0, 0.1):
            workdir = tmp_path / f"{seed}-{weight}"
            workdir.mkdir()
            own = 0.2 + weight * (1 + seed)
            rows = [{"step": 1, "identity/own": 0.9, identity_gain.SPEED: 9.0}]
            rows += [{"step": 2, "identity/own": own, identity_gain.SPEED: 0.5 + weight}] * 2
            (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
            found[seed, weight] = identity_gain.figures(workdir)
    assert found[1, 0.1]["identity/own"] == pytest.approx(0.4)
    assert found[1, 0.1][identity_gain.SPEED] == pytest.approx(0.6)
    last = identity_gain.table(found, 0.1).splitlines()[-1]
    assert "| +0.1500 +- 0.0707 |" in last and last.endswith("| +0.1000 +- 0.0000 |") and "nan" in last
