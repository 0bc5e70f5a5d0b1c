"""From the files of engines to traces, and counts: a file for each source."""
