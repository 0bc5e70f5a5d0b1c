"""Many scenarios at once: search, requirements, sweeps."""
