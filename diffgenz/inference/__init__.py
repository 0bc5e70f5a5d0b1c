"""The answer: what a scenario takes. Iterations, phases, memory, energy, and the verbs over them."""
