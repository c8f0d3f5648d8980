"""Pages on which people compare, rate and mark images: served, or as a folder that opens without a server."""
