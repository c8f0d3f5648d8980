"""What every stage needs: its parameters as objects, a device, and errors that read well."""

from stages.runtime.device import pick_device, pick_dtype
from stages.runtime.params import Params, build, load_params, study_models, study_scorers
from stages.runtime.stage import run_stage

__all__ = [
    "Params",
    "build",
    "load_params",
    "pick_device",
    "pick_dtype",
    "run_stage",
    "study_models",
    "study_scorers",
]
