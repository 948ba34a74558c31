"""One file a schema change, oldest first. A released one is never edited."""
