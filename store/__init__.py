"""The quarantine: the filer that fills it, the index and the segments that hold it, expiry, export, the IMAP server."""
