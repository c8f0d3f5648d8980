"""Prompts → predicted quality of each model. Predictors know nothing of costs or choices.

Every predictor is a `Predictor`; `save_predictor` and `load_predictor` keep one as a folder of JSON and
safetensors. Importing this room loads neither torch nor scikit-learn.
"""

from stages.predictors.cems import Cems
from stages.predictors.cems_frozen import CemsFrozen
from stages.predictors.ensemble import Ensemble
from stages.predictors.factorisation import Factorisation
from stages.predictors.features import Features
from stages.predictors.folder import load_predictor, save_predictor
from stages.predictors.gbm import Gbm
from stages.predictors.kernel import Kernel
from stages.predictors.knn import Knn
from stages.predictors.mean import Mean
from stages.predictors.mlp import Mlp
from stages.predictors.predictor import Predictor
from stages.predictors.ridge import Ridge
from stages.predictors.svm import Svm

__all__ = [
    "Cems",
    "CemsFrozen",
    "Ensemble",
    "Factorisation",
    "Features",
    "Gbm",
    "Kernel",
    "Knn",
    "Mean",
    "Mlp",
    "Predictor",
    "Ridge",
    "Svm",
    "load_predictor",
    "save_predictor",
]
