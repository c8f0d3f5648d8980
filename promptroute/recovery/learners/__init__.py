"""What learns the prompt's sentence embedding from views of an image."""
