"""Stage ``inputs``: what lies outside DVC's graph, the sources, code and packages."""
