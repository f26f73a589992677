"""Encoders and decoders sized from the data's shape, and the codes of conditions."""
