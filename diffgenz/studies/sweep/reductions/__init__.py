"""What a sweep keeps of its configurations: one reduction a file."""
