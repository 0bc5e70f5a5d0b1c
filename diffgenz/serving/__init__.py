"""Serving under load, and on several pools of accelerators."""
