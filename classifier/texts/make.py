"""How a message is made: the marks of bulk mail that stand in header fields, subject, address fields and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from classifier import addresses
from classifier.linear import Linear
from classifier.mime import Message
from classifier.verdict import Evidence

MAX_HTML_BYTES = 128 * 1024
_MAILERS = Linear(
    r"accucast|mass ?mail|bulk|group ?mail|e-?mail ?(?:blast|campaign)|newsletter|store-mailer|campaign|mailchimp"
    r"|sendgrid|mailjet|phpmailer|swiftmailer|ocxmail|aspmail|jmail|cgi|listserv|majordomo|mail(?:man|ing ?list)"
    r"|dartmail|lyris|zustellservice|constant contact|atlas mailer|\bsupermailer|turbomail|the bat! .{0,20}bulk"
)
UNANSWERED = (
    r"no[._-]?reply|do[._-]?not[._-]?reply|n[aã]o[._-]?respond(?:a|er)|no[._-]?respond(?:a|er|as)"
    r"|ne[._-]?pas[._-]?repondre|(?:bitte[._-]?)?nicht[._-]?antworten|non[._-]?rispondere|niet[._-]?(?:be)?antwoorden"
    r"|nie[._-]?odpowiadac?j?|svara[._-]?ej|svar[._-]?ikke|voicemail|asterisk|alerts?|notifications?|notify"
    r"|monitor(?:ing)?|automail(?:er)?"
)
MONITORS = (  # programs that watch hosts and services, each by its name
    r"zabbix|nagios|icinga2?|check_?mk|prtg|grafana|prometheus|alertmanager|opsgenie|pagerduty|uptime-?(?:robot|kuma)?"
    r"|pingdom|munin|monit|netdata|librenms|observium|sensu|cacti|smartd|mdadm|logwatch|fail2ban|cron"
)
_NOBODY = re.compile(
    rf"^(?:{UNANSWERED}|news(?:letters?)?|e-?news|nobody|updates?|offers?"
    r"|deals|promo(?:tions?)?|marketing|mailer|weboffers|specials|digest|list|nic|orders?|billing|invoices?|statements?|tracking|shipping)(?:[+._-].*)?$",
    re.IGNORECASE,
)
_SUBJECT_MARKS = Linear(
    r"^\[alert\]|\bnotification\b|"
    r"\badv\s?:|\(광고\)|\[광고\]|【廣告】|\$\$|!{2,}|\b\d{1,3} ?% off\b|\bfree\b.*!|\s{4,}\S*\d\S*$|\s{4,}\S+$|"
    r"[a-z]\s?#\s?\d{3,}[a-z]?$|[a-z?!.]{3,}\s?\d{4,}$|(?:newsletter|digest|enews|announcements?)\b.*\d|v[1i]agra|\[[a-z]{5}\]$"
)
_MANY = 5


def marks(message: Message, flagged: bool) -> Iterator[tuple[int, Evidence]]:
    """Each mark with its points; `flagged`: a spam filter has marked it."""
    if flagged:
        yield 2, Evidence("bulk.flagged", "", -1, "a spam filter says so")
    mailer = message.headers.get("x-mailer") or message.headers.get("user-agent") or ""
    if found := _MAILERS.first(mailer[:200]):
        yield 2, Evidence("bulk.mailer", "", -1, found[:80])
    local = message.from_address.partition("@")[0]
    if _NOBODY.match(local) or (sum(c.isdigit() for c in local) >= 3 and not local.isdigit()):
        yield 1, Evidence("bulk.sender", "", -1, message.from_address[:200])
    if mark := _SUBJECT_MARKS.first(message.subject[:300].strip()):
        yield (3 if "adv" in mark.lower() else 1), Evidence("bulk.subject", "", -1, mark[-80:])
    if why := addressed(message):
        yield 1, Evidence("bulk.to", "", -1, why)
    yield from _composed(message)


def addressed(message: Message) -> str:
    """Name what is odd in whom it is addressed to; "" for mail as people address it."""
    to = (message.headers.get("to") or "")[:4000]
    people = [f.address.lower() for f in addresses.find(to, _MANY + 1)]
    if not to.strip() or "undisclosed" in to.lower() or not people:
        return "to nobody"
    if len(people) > _MANY:
        return "to many"
    return "to its own sender" if people == [message.from_address.lower()] else ""


def _composed(message: Message) -> Iterator[tuple[int, Evidence]]:
    """HTML with no text beside it, the more so when it is full of pictures and links."""
    if not message.html_only:
        return
    yield 1, Evidence("bulk.html", "", -1, "HTML only")
    parts = (p.decoded(MAX_HTML_BYTES) for p in message.walk() if p.content_type == "text/html")
    html = b"".join(parts)[:MAX_HTML_BYTES].lower()
    pictures, links = html.count(b"<img"), html.count(b"<a ") + html.count(b"<area") + html.count(b"<form")
    if (pictures >= 3 and links >= 2) or links >= 8:
        yield 2, Evidence("bulk.html", "", -1, f"{pictures} pictures, {links} links")
    elif pictures and links:
        yield 1, Evidence("bulk.html", "", -1, f"{pictures} pictures, {links} links")
