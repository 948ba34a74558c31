"""The rules of reasons: data only (TOML). `classifier/reasons/book.py` reads them."""
