"""A tolerant, bounded, fast MIME reader over bytes: `parse(raw) -> Message`. It never raises.

`message.py` is the tree, `headers.py` the fields, `encodings.py` transfer encodings and charsets, `html.py` what
a person would read of an HTML part.
"""

from classifier.mime.headers import Headers
from classifier.mime.message import Message, Part, parse

__all__ = ["Headers", "Message", "Part", "parse"]
