"""Prompts → predicted quality of each model. Predictors know nothing of costs or choices.

Every predictor is a `Predictor`; `save_predictor` and `load_predictor` keep one as a folder of JSON and
safetensors. Importing this room loads neither torch nor scikit-learn.
"""
