"""Prompt sources, sampling, and what a prompt set is like."""
