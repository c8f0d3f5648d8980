"""promptroute: which text-to-image model should draw this prompt, and what does that cost?

Each module of this package is one stage of `dvc.yaml` (`python -m stages.NAME`); the folders are the
rooms that the stages share.
"""
