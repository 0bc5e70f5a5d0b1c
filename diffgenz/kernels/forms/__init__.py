"""The forms of kernel families: one file each, its formula first."""
