"""Reading and writing the pipeline's files: whole or not at all, and checked on the way in."""
