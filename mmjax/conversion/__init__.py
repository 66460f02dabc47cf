"""Published weights into our parameter trees and back.

from mmjax import conversion

conversion.convert("transformer", "zai-org/CogVideoX-5b", "weights/transformer")
config, params = conversion.load_component("weights/transformer", dtype="bfloat16")
conversion.convert_back("transformer", "weights/transformer", "diffusers/transformer")

conversion.convert_pipeline("zai-org/CogVideoX-5b", "weights/5b")
pipeline = conversion.read_pipeline("weights/5b")
config, params = conversion.load_component(pipeline.folders["vae"])

Begin with `engine`: a conversion is a table of rows, checked whole before a tensor is read. Then one table, such as
`transformer`, which ends in its `component.Component`; `registry` lists them by name. `plans` and `folders` carry a
conversion out, `pipeline` several at once; `source`, `safetensors_io`, `pickles`, `onnx_file` read what is published,
`store` is the converted folder, `rounding` what float16 loses in bfloat16.
"""

from mmjax.conversion.folders import convert, convert_back, load_component, read_record
from mmjax.conversion.pipeline import Pipeline, convert_pipeline, convert_pipeline_back, read_pipeline
from mmjax.conversion.plans import Report
from mmjax.conversion.recognise import ADAPTER, PRETRAINED
from mmjax.conversion.registry import COMPONENTS, PIPELINE
from mmjax.conversion.transformer import abstract_transformer

__all__ = [
    "ADAPTER",
    "COMPONENTS",
    "PIPELINE",
    "PRETRAINED",
    "Pipeline",
    "Report",
    "abstract_transformer",
    "convert",
    "convert_back",
    "convert_pipeline",
    "convert_pipeline_back",
    "load_component",
    "read_pipeline",
    "read_record",
]
