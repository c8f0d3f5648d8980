"""Figures and the page of a result: nothing here computes what `evaluate` measured."""
