"""Pictures and pages of a result: nothing here computes what `evaluate` measured."""
