"""Stage ``fetch``: one archive per source, simulated, downloaded or a user's own."""
