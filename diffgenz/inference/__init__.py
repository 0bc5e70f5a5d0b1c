"""The answer: what a scenario takes, from its iterations to time, memory, energy and cost."""
