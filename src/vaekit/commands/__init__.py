"""The verbs of the command line, each a few lines around functions of the library, and what they show."""
