"""Typed rows and their Arrow schemas, the prompt batch, errors for people: what every other room speaks in."""
