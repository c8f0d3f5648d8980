"""The command `promptroute`."""

from promptroute.core.errors import quiet_interrupts

quiet_interrupts()
