"""The proxy: takes mail by SMTP, keeps a durable copy, forwards it byte for byte to the legacy handler."""
