"""The small world: scenes drawn by our own code, captions for them, and the training of the small models."""
