"""Models: what draws. Everything else in the library is a reduction of the draw."""
