"""What the sender of a message wrote now: without quotes, forwarded originals, signatures and legal footers.

Languages differ in the words ("On ... wrote:", "Von: / Gesendet:"), hardly in the form; so it is the form that is
looked at: a line with an address that ends in a colon, a block of short "Word: value" lines whose first holds an
address, a title between dashes. A pass over the lines, at most 20,000 characters of them.
"""

from __future__ import annotations

import re

from classifier.linear import Linear

ENOUGH_CHARS = 5_000  # of new text
MAX_CHARS = 20_000  # what decides stands at the head
_WRAPPED_CHARS = 120

_ATTRIBUTION = re.compile(
    r"^.{0,160}(?:<[^<>\s]{1,120}@[^<>\s]{1,120}>|\b\S{1,64}@\S{1,100}\b|\[mailto:).{0,80}[:：]\s*\*?$"
)
_DIGIT = re.compile(r"\d")
_WROTE = Linear(
    r"(?:wrote|writes|schrieb|geschrieben|[àa] écrit|écrivait|a écrit|escribi[óo]|escrib[ií]a|ha escrito|"
    r"escreveu|ha scritto"
    r"|scriveva|va escriure|schreef|heeft .{0,60}geschreven|skrev|kirjoitti|skrifaði|kirjutas|rakst[īi]ja|ra[šs][ėe]"
    r"|napisa[łl]\(?a?\)?|pisze|napsal\(?a?\)?|nap[íi]sal\(?a?\)?|[íi]rta|a scris|написа\(?а?\)?|написав|"
    r"написала?|пише[тш]?"
    r"|напісаў|napisao|napisala|je napisao|je napisal|shkroi|έγραψε|şunu yazdı|tarihinde şunları yazdı|"
    r"yazdı|yazmış|yazıb"
    r"|жазды|כתב\S{0,3}|(?:ה)?כתיבה|كتب|نوشت|لکھا|ने लिखा|লিখেছেন|எழுதியது|వ్రాశారు|เขียน\S{0,6}|đã viết|"
    r"menulis|nagsulat|isinulat"
    r"|写道|写到|寫道|wrote|님이 작성|작성|aliandika|het geskryf|idatzi zuen|escribiu|ysgrifennodd|scríobh|kiteb)"
    r"[^\n]{0,12}[:：]\s*$|(?:のメール|さんは書きました|は書きました)[:：]?\s*$|^[^\n]{0,120}님(?:이|께서)[^\n]{0,20}$"
)
_TITLE = re.compile(
    r"^[\s>*]*[-_=~*]{3,}\s?[^\W\d_][^\n]{2,60}?\s?[-_=~*]{3,}\s*$|^_{10,}\s*$|^Begin forwarded message\b",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^\*?[^\W\d_][^:：\n]{0,24}\s?[:：]\*?(?:\s|$)")
_FROM_FIELD = re.compile(
    r"^\*?(?:from|von|de|da|van|från|fra|lähettäjä|saatja|sendandi|od|feladó|de la|expéditeur|remitente|mittente"
    r"|afzender|от|від|ад|од|από|αποστολέας|kimden|gönderen|מאת|من|از|差出人|送信者|发件人|發件人|寄件者|보낸 ?사람"
    r"|ผู้ส่ง|từ|dari|no|nuo)"
    r"\s?[:：]",
    re.IGNORECASE,
)
_DEVICES = (
    r"iphone|ipad|samsung|galaxy|android|huawei|xiaomi|blackberry|windows phone|nokia|outlook (?:for|"
    r"for android)|outlook|"
    r"proton ?mail|yahoo mail|gmail|gmx|web\.de|mail\.ru|t-online|libero|naver|tutanota|k-9|thunderbird|"
    r"handy|smartphone|mobile device"
    r"|телефона|почты|携帯|から送信"
)
_DEVICE = re.compile(rf"\b(?:{_DEVICES})\b", re.IGNORECASE)
_DEVICE_HINT = Linear(_DEVICES)
_DEVICE_HEAD = re.compile(
    r"^(?:sent (?:from|with|via)|get outlook|von meinem|gesendet|diese nachricht wurde von|envoyé|"
    r"télécharge|obtenez|enviado|enviat|inviato|"
    r"verzonden|verstuurd|skickat|sendt|lähetetty|wysłane|odesláno|odoslané|elküldve|trimis|отправлено|εστάλη|"
    r"изпратено|надіслано|"
    r"послато|poslano|poslato|στάλθηκε|.{0,30}gönder|נשלח|أرسلت|مرسل|.{0,24}から送信|发自|從我的|从我的|나의|보낸사람|dikirim|"
    r"được gửi|ส่งจาก|saadetud|nosūtīts|išsiųsta|sent)\b",
    re.IGNORECASE,
)
_LEGAL = re.compile(
    r"^\W{0,6}(?:this (?:e-?mail|message|communication)[^.]{0,60}(?:confidential|intended (?:only|solely)|"
    r"privileged)|the information "
    r"(?:contained )?in this (?:e-?mail|message)|confidentiality (?:notice|note)|confidential(?:ity)?:|"
    r"disclaimer\b|important notice\b|legal notice|"
    r"if you (?:are not|have received this)[^.]{0,40}(?:intended|error|mistake)|"
    r"diese (?:e-?mail|nachricht) (?:enthält|ist)[^.]{0,40}vertraulich|ce (?:message|courriel)[^.]{0,60}confidentiel|"
    r"este (?:mensaje|correo|e-?mail)[^.]{0,60}confidencia|(?:questo|"
    r"il presente) messaggio[^.]{0,60}(?:riservat|confidenzial)|"
    r"esta mensagem[^.]{0,60}confidencia|dit (?:bericht|e-?mailbericht)[^.]{0,60}vertrouwelijk|"
    r"please consider the environment|think before you print)",
    re.IGNORECASE,
)


def new_text(text: str) -> str:
    """Take everything off a body's text that its sender did not write now; lines stay lines."""
    lines = text[:MAX_CHARS].replace("\xa0", " ").split("\n")
    device = _DEVICE_HINT.within(text[:MAX_CHARS])
    kept: list[str] = []
    at, last, room = 0, len(lines), ENOUGH_CHARS
    while at < last and room > 0:
        line = lines[at].strip()
        if line == "--":  # RFC 3676 section 4.3, with its blank or without
            break
        if line.startswith((">", "|>", "&gt;")):
            at += 1
            continue
        if line and (end := _original_begins(lines, at)):
            if kept and _wrapped(kept[-1], line):
                kept.pop()
            if end < 0:
                break
            at += end
            continue
        if (len(line) < 30 or (device and len(line) < 90 and _DEVICE.search(line))) and _DEVICE_HEAD.match(line):
            at += 1  # "Sent from my phone"
            continue
        if len(line) > 20 and _LEGAL.match(line):
            break
        kept.append(line)
        room -= len(line)
        at += 1
    return "\n".join(kept).strip()


def quoted_head(text: str) -> str:
    """The lines where the first original begins, which say who wrote it; "" where none is seen."""
    lines = text[:MAX_CHARS].split("\n")
    for at, line in enumerate(lines):
        if line.strip() and line[0] != ">" and _original_begins(lines, at):
            return "\n".join(lines[max(0, at - 2) : at + (1 if "@" in line else 2)])
    return ""


def _original_begins(lines: list[str], at: int) -> int:
    """Does an original begin here? 0: no; -1: all the rest is quoted; n: these n lines introduce lines with ">"."""
    line = lines[at].strip()
    if line[0] in "-_=~*Bb" and _TITLE.match(line) and (line[0] != "*" or any(part.strip() for part in lines[:at])):
        return -1
    if line[-1] in ":：*" or "wrote" in line or "님" in line or "メール" in line or "書" in line:
        for joined in (1, 2, 3):
            introduction = " ".join(part.strip() for part in lines[max(0, at - joined + 1) : at + 1])
            if len(introduction) > 260:
                break
            if _introduces(introduction):
                following = next((part.strip() for part in lines[at + 1 : at + 4] if part.strip()), "")
                return 1 if following.startswith(">") or not following else -1
    if _FIELD.match(line) and ("@" in line or "<" in line or _FROM_FIELD.match(line)):
        block = [part.strip() for part in lines[at + 1 : at + 5]]
        if sum(bool(_FIELD.match(part)) for part in block if part) >= 2:
            return -1
    return 0


def _wrapped(above: str, line: str) -> bool:
    """Tell whether an introduction was wrapped before its address, so that its date stands in the line above."""
    return line.startswith("<") and "@" in line and 0 < len(above) < _WRAPPED_CHARS and _DIGIT.search(above) is not None


def _introduces(text: str) -> bool:
    """Tell whether a line says who wrote what follows, in whatever language: most of them end in a colon."""
    ended = text.rstrip(" *")[-1:] in (":", "：")
    if ended and ("@" in text or "[mailto:" in text) and _ATTRIBUTION.match(text):
        return True
    if not ended and "님" not in text and "書" not in text and "メール" not in text:
        return False
    return _DIGIT.search(text) is not None and _WROTE.within(text)
