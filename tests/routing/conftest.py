"""Timing limits per example mean nothing on a shared machine."""

from hypothesis import settings

settings.register_profile("routing", parent=settings(), deadline=None)
settings.load_profile("routing")
