"""The small world: rendered scenes of flat shapes, their captions, and the training of the small models."""
