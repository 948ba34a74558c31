"""Plain messages as a mail program writes them, for tests of what people write."""

from __future__ import annotations


def letter(
    text: str,
    *,
    to: str = "newsletter@news.shop.example",
    subject: str = "Re: Your November digest",
    answers: bool = False,
    headers: str = "",
    sender: str = "Bob Tester <bob@client.example>",
) -> bytes:
    """A UTF-8 text/plain message; `headers` are whole lines to add; `answers` adds In-Reply-To."""
    fields = [
        f"From: {sender}",
        f"To: {to}",
        f"Subject: {subject}",
        "Date: Tue, 24 Nov 2026 10:00:00 +0000",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ]
    if answers:
        fields.append("In-Reply-To: <1@news.shop.example>")
    return ("\n".join([*fields, *filter(None, headers.split("\n"))]) + f"\n\n{text}\n").encode()
