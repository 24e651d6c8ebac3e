"""What is done with a finished run: questions about an image, export, comparison."""
