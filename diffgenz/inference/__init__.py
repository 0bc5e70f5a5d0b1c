"""The answer: what a scenario takes, as iterations, phases, memory, energy, and sums over them."""
