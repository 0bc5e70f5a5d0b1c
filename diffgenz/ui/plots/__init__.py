"""Pictures: needs matplotlib (diffgenz[plots])."""
