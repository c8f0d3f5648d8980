"""Rich human feedback in the small world: examples whose truth is known exactly, a small network, its evaluation."""
