"""Predict each model's quality from the prompt. Predictors know nothing of costs or choices.

Every predictor is a `promptroute.predictors.base.Predictor`, kept as a folder of JSON and safetensors. Importing
this room loads neither torch nor scikit-learn.
"""
