"""Who signs a message: a mail system or somebody else, told by From, its display name and the return path."""

from __future__ import annotations

import re

from classifier import addresses
from classifier.context import Context
from classifier.linear import Linear
from classifier.mime import Message

_SYSTEM_NAMES = (
    r"mail(?:er)?[ .-]?(?:delivery|daemon)",
    r"delivery (?:sub)?system",
    r"mail (?:system|server|administrator)",
    r"mail (?:firewall|gateway|router|transport)",
    r"(?:e-?mail|content|spam) (?:filter|firewall|gateway)",
    r"mail deliver system",
    r"postmaster",
    r"system ?administrator",
    r"microsoft outlook",
    r"interscan|jetmail|mailmarshal|mailsweeper",
)
# Filters that write to the sender of what they stop; as a name of its own none of these makes a notice.
_FILTERS = (
    r"messagelabs|email security\.cloud|symantec|trend ?micro|scanmail|imss|imsva|interscan|mimecast|proofpoint",
    r"mailmarshal|trustwave|clearswift|mimesweeper|mailsweeper|sophos|astaro|fortimail|fortinet|barracuda|ironport",
    r"gfi ?mail|mailessentials|mailsecurity|spamtitan|hornetsecurity|antispameurope|spamexperts|mailcleaner|libraesva",
    r"mailscanner|amavis|webshield|kaspersky|forcepoint|websense|mailcontrol|icewarp|kerio|mdaemon|vade ?secure",
    r"avira|antivir|retarus|dr\.?web|\beset\b|clamav|f-secure|bitdefender|nospamproxy|reddoxx|seppmail|vir(?:en|us)schutz",
    r"anti-?virus|anti-?spam|virus ?(?:scan|wall|filter)|content[ -]?(?:filter|control)|(?:e-?)?mail[ -]?security",
)
_FILTER = Linear("|".join(_FILTERS))
_ANSWERS = re.compile(r"\s{0,4}(?:re|aw|sv|vs|odp|antw|res|rif|atb|ynt|回复|答复|回覆|返信)\s?[:：]", re.IGNORECASE)
_QUESTION = re.compile(r"[^\W_]\s?[?？؟](?:\s|$)")  # not in a link
_GREETINGS = (
    "hi|hello|hey|dear|good (?:morning|day|afternoon)|hallo|lieber?|sehr geehrte|guten (?:tag|morgen)|moin|bonjour|"
    "cher|hola|estimad[oa]|buenos d[ií]as|ol[aá]|prezad[oa]|bom dia|ciao|buongiorno|salve|gentile|beste|geachte|"
    "hej|hei|dzień dobry|witam|cześć|dobrý den|ahoj|здравствуйте|добрый день|привет|доброго дня|merhaba|sayın|γεια|"
    "こんにちは|お世話|您好|你好|안녕하세요|xin chào|สวัสดี|مرحبا|שלום"
)
_GREETS = re.compile(rf"^\s{{0,8}}(?:{_GREETINGS})(?:[ ,!.\n、，]|$)", re.IGNORECASE)
_REQUESTS = (
    "please|can you|could you|would you|bitte|k[öo]nn(?:en|t) sie|s'il vous pla[iî]t|pouvez-vous|por favor|per favore|"
    "alstublieft|proszę|prosím|пожалуйста|будь ласка|lütfen|παρακαλώ|お願い|ください|请|請|부탁"
)
_ASKS = re.compile(rf"[?？؟](?:\s|$)|\b(?:{_REQUESTS})", re.IGNORECASE)
_CLOSES = re.compile(
    r"^\s{0,4}(?:(?:kind |best |warm )?regards|best wishes|cheers|thanks|thank you|sincerely|yours|mit freundlichen|"
    r"(?:viele|liebe|beste|freundliche) gr(?:ü|u)(?:ß|ss)e|cordialement|merci|saludos|atentamente|gracias|"
    r"atenciosamente|obrigad[oa]|cordiali saluti|grazie|met vriendelijke|groet|med vänlig|mvh|pozdrawiam|"
    r"s pozdravem|с уважением|saygılar|teşekkür)",
    re.IGNORECASE | re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_FEW_WORDS = 15
_PARTIES, _PARTIES_CHARS = 20, 8000  # looked at in one field: so many addresses, as long as RFC 5321 lets them be
_LIST_MANAGER_FIELDS = ("x-mlserver", "x-list-administrivia")
_LIST_MANAGERS = frozenset({"listmaster", "listserv", "majordomo", "mailman", "sympa"})
_SYSTEM_NAME = re.compile("|".join(_SYSTEM_NAMES), re.IGNORECASE)


def is_system(message: Message, context: Context) -> bool:
    """Tell whether a mail system signs this: by address, by name, or by the null reverse-path and no person."""
    sender = message.from_address
    if addresses.is_machine(sender) or (sender in ("", "@") and "from" in message.headers):
        return True
    name = message.from_name or (message.headers.get("from") or "")
    if _SYSTEM_NAME.search(name[:200]):
        return True
    return null_path(message, context) and not addresses.valid(sender)


def is_system_name(text: str) -> bool:
    """Tell whether a mailbox as somebody quotes it (`Name <address>`) is a mail system's."""
    return _SYSTEM_NAME.search(text) is not None or any(
        addresses.is_machine(f.address) for f in addresses.find(text, 2)
    )


def is_daemon(message: Message, context: Context) -> bool:
    """Tell whether this is surely no person's: a mail system's own address, or its name and the null path."""
    return is_mailer_daemon(message) or (null_path(message, context) and is_system(message, context))


def is_mailer_daemon(message: Message) -> bool:
    """Tell whether the address in From is one that only programs sign with."""
    return message.from_address.lower().startswith(("mailer-daemon@", "mailer_daemon@", "mailerdaemon@"))


def is_exchange(message: Message) -> bool:
    """Exchange signs alike in every language: `Microsoft Outlook`, and a subject that is a word, a colon, a title."""
    signed = message.from_name == "Microsoft Outlook" or message.from_address.lower().startswith("microsoftexchange")
    return signed and ":" in message.subject[1:60]


def is_filter(message: Message) -> bool:
    """Tell whether a content filter's name stands in From, in its display name or its address."""
    who = f"{message.from_name[:200]} {message.from_address[:320]}"
    return _FILTER.within(who)


def is_letter(prose: str) -> bool:
    """Tell whether a text greets and signs, as people do (and programs seldom)."""
    return bool(_GREETS.search(prose[:4000]) and _CLOSES.search(prose[:4000]))


def greets_or_asks(prose: str) -> bool:
    """Tell whether a text has anything of a letter: a greeting, a closing, a request."""
    said = prose[:4000]
    return bool(_GREETS.search(said) or _CLOSES.search(said) or _ASKS.search(said))


def is_list_manager(message: Message) -> bool:
    """Tell whether a mailing list's manager signs this: its header fields, or the address of an owner or a robot."""
    if any(name in message.headers for name in _LIST_MANAGER_FIELDS):
        return True
    local = message.from_address.partition("@")[0].lower()
    return local in _LIST_MANAGERS or local.endswith(("-admin", "-bounces", "-owner", "-request"))


def writes_above(message: Message, context: Context) -> bool:
    """Tell whether a person says something of their own above what they forward: a request, or more than a line."""
    if is_system(message, context):
        return False
    said = message.text[:4000]
    return bool(_ASKS.search(said) or _GREETS.search(said)) or len(_WORD.findall(said)) > _FEW_WORDS


def is_personal(message: Message, prose: str, context: Context, *, returns_nothing: bool) -> bool:
    """Tell whether a person speaks where a postmaster's or an administrator's name stands in From.

    `prose` is what stands above a returned copy, `returns_nothing` tells that there is none. Programs greet too ("Hi.
    This is the qmail-send program"), and some ask; none answers (`Re:`), none greets or signs and asks a question, and
    none greets and signs where it comes under no null path and returns nothing.
    """
    submitted = (message.headers.get("auto-submitted") or "no").lower()
    local = message.from_address.partition("@")[0].lower()
    if submitted != "no" or null_path(message, context) or (addresses.is_machine(local) and local != "postmaster"):
        return False
    if _ANSWERS.match(message.subject) and ("in-reply-to" in message.headers or "references" in message.headers):
        return True
    said = prose[:4000]
    greets, closes = _GREETS.search(said), _CLOSES.search(said)
    return bool((_QUESTION.search(said) and (greets or closes)) or (returns_nothing and greets and closes))


def null_path(message: Message, context: Context) -> bool:
    """Tell whether the message is known to have come with the null reverse-path (RFC 5321 section 4.5.5)."""
    return context.envelope_from == "" or (message.headers.get("return-path") or "").strip() == "<>"


def parties(message: Message) -> set[str]:
    """Give the addresses in From and To, lower case: whom a notice is from and for, so hardly whom it is about."""
    fields = ((message.headers.get(name) or "")[:_PARTIES_CHARS] for name in ("to", "from"))
    return {found.address.lower() for field in fields for found in addresses.find(field, _PARTIES)}
