"""Around the pipeline: presets, papers, the machine's state."""
