"""What people touch: the command line, plots, text and tables."""
