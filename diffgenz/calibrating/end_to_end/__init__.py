"""From measured serving runs to what a server adds to its accelerators' time."""
