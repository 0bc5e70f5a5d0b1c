"""What a checkpoint is stored in: the modules of a model, each with a format.

A model's blocks name their modules (`modules`). A quantisation section, whatever tool wrote it, is
read into rules (`methods`, one file for each tool), whose entries find modules by name (`names`).
`stored` weighs what each module is in by its parameters.
"""

from diffgenz.models.checkpoints.precision import load_precision
from diffgenz.models.checkpoints.sections import quantization_section, read_source
from diffgenz.models.checkpoints.stored import LinearFormat, Stored, read_stored, stored_of

__all__ = [
    "LinearFormat",
    "Stored",
    "load_precision",
    "quantization_section",
    "read_source",
    "read_stored",
    "stored_of",
]
