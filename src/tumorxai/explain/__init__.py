"""Explanations: heat-maps and how well they localise."""
