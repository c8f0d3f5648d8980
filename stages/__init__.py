"""The stages of dvc.yaml, each a script: `python -m stages.NAME`."""

from promptroute.core.errors import quiet_interrupts

quiet_interrupts()
