"""How vectors of a grid become codes: each entry builds a module, made of the library vector-quantize-pytorch."""
