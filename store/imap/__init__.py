"""The embedded IMAP4rev1 server: how analysts read the quarantine with any mail client.

Three layers, each of which works and is tested alone:

    grammar    bytes -> commands (`framing`, `scanner`, `grammar`), values -> bytes (`response`), and what FETCH
               and SEARCH find in a message (`mime`, `addresses`, `structure`, `search`): no I/O, bounded, never
               raising anything but ImapSyntaxError
    session    the state machine of one connection: roles, the client's view of a mailbox, untagged responses
    backend    the folders as columns in memory, over `store.mailboxes` in a thread pool; `server` listens
"""
