"""Kernels in C for the parts of a small convolutional network's training step that torch's CPU libraries do slowly.

The C beside this file is compiled by the machine's own C compiler when it is first needed, and kept in the cache folder.
Where there is no compiler, or no processor with AVX512-BF16, everything is computed by torch's own operators, as without
this room.
"""
