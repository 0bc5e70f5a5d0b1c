"""What a sweep keeps: fronts, the best few, the best of each cell of a map, histograms, rows."""
