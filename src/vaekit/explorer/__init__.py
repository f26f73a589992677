"""The live explorer: a page that decodes under the pointer, from a small server or as a static folder."""
