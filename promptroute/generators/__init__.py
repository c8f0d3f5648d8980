"""Text-to-image models: prompts and seeds in, images out, and a study's images from one of them."""
