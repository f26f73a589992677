"""Several models over seeds and settings in one command."""
