"""A study becomes a plan of trials; Ray Tune trains those that are not done yet."""
