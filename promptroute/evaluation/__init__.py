"""Figures of a router and of its models: metrics, intervals, comparisons."""
