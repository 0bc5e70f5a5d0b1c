"""Numbers and words that know nothing of accelerators or models: smooth maxima, records, units, formats, files."""
