"""The training doctor: finds what is wrong with a run, shows the numbers that say so, and names the setting to change."""
