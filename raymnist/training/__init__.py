"""Training of one trial: an engine that runs a model's phases, and the loop around it."""
