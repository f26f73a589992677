"""Image files, folders and archives of them: read by stated rules, packed into a cache once."""
