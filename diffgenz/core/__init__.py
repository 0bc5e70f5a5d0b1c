"""What needs no accelerator or model: smooth maxima, records, checks, units, formats and files."""
