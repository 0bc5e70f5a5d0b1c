"""Numbers and words that know nothing of accelerators or models.

Smooth maxima, records and their checks, units, formats, errors and files.
"""
