"""The command `promptroute`."""
