"""What an evaluator reports, and where it goes."""

import json

import numpy as np
from PIL import Image

from mmjax.training.evaluators import Evaluation, SampleSheets, write_evaluation
from mmjax.training.telemetry import Telemetry


def test_figures_lines_and_pictures_go_where_the_run_keeps_them(tmp_path, capsys):
    telemetry = Telemetry(tmp_path, 0, 10)
    picture = np.full((6, 8, 3), 200, np.uint8)
    write_evaluation(telemetry, 4, "identity", Evaluation({"identity/cosine": 0.5}, "cosine 0.5", picture))
    write_evaluation(telemetry, 6, "nothing", Evaluation())
    telemetry.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 4, "identity/cosine": 0.5}
    assert Image.open(tmp_path / "identity" / "4.png").size == (8, 6)
    assert capsys.readouterr().out == "step 4: cosine 0.5\n"
    assert not (tmp_path / "nothing").exists()


def test_sample_sheets_draw_with_the_averaged_parameters():
    class State:
        def params(self):
            return "averaged"

    sheets = SampleSheets(5, lambda params, step: (params, step))
    assert (sheets.name, sheets.every) == ("samples", 5)
    assert sheets(State(), 10).picture == ("averaged", 10)
