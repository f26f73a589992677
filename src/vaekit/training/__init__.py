"""Training: a loop that reads from top to bottom, and the engine, checkpoints and schedules below it."""
