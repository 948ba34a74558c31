"""The way to the legacy handler: connections, the pool of each host, its health, and what the hosts can do.

`hosts.py` is the door: `Hosts.send` takes a `Parcel` to the first host that will have it. Below it stand `pool.py`
(slots and kept connections), `breaker.py` (is a host worth trying), `connect.py` (TCP, greeting, EHLO, TLS, AUTH, by
aiosmtplib) and `client.py` (the mail transaction, whose bytes are ours alone). Nothing here knows of the journal.
"""
