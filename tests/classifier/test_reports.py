"""Delivery reports of many mail systems: what they are, whom they are about, and with which codes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from classifier import Context, classify

NOTICES: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "notices.toml").read_text("utf-8"))["notice"]


def raw(notice: dict[str, Any], *, body: str | None = None) -> bytes:
    """The notice as a message; HTML ones go base64, as most systems send them."""
    extra = notice.get("headers", "")
    head = f"From: {notice['from']}\nTo: sender@shop.example\nSubject: {notice['subject']}\nMIME-Version: 1.0\n"
    head += f"{extra}\n" if extra else ""
    subtype = "html" if "html" in notice else "plain"
    text = body if body is not None else notice.get("html", notice.get("text", "")).lstrip("\n")
    head += f"Content-Type: text/{subtype}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
    return f"{head}\n{text}".encode()


@pytest.mark.parametrize("notice", NOTICES, ids=[n["name"] for n in NOTICES])
def test_notice(notice: dict[str, Any]) -> None:
    verdict = classify(raw(notice), Context())
    assert verdict.kind == notice["kind"]
    if notice["kind"] in ("bounce", "delay"):
        assert [r.address for r in verdict.recipients] == [who[0] for who in notice["who"]]
        for recipient, (_, status, reply) in zip(verdict.recipients, notice["who"], strict=True):
            assert (recipient.status or "") == status or not status
            assert (recipient.reply_code or 0) == reply
    if notice["kind"] == "other":
        assert verdict.authentic is False
        assert verdict.evidence
