"""Published weights into our parameter tree and back.

from mmjax import conversion

conversion.convert("transformer", "zai-org/CogVideoX-5b", "weights/transformer")
config, params = conversion.load_component("weights/transformer", dtype="bfloat16")
conversion.convert_back("transformer", "weights/transformer", "diffusers/transformer")
"""

from mmjax.conversion.components import COMPONENTS
from mmjax.conversion.folders import Report, convert, convert_back, load_component, read_record
from mmjax.conversion.transformer import abstract_transformer

__all__ = [
    "COMPONENTS",
    "Report",
    "abstract_transformer",
    "convert",
    "convert_back",
    "load_component",
    "read_record",
]
