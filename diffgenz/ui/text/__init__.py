"""Results as text for people and as JSON: pure functions, a file for each kind of result."""
