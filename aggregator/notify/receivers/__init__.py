"""One receiver a file: it sends once and says whether to try again."""
