"""How `judge()` weighs headers, addresses, quotes and words; what it tells beside the kind; and its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import classify
from classifier.context import Context, Patterns
from classifier.fold import fold
from classifier.rule import Rule
from classifier.rulebook import Rulebook
from classifier.texts.book import book, rules
from classifier.texts.dates import returns_on
from classifier.texts.newtext import new_text
from classifier.verdict import AutoReplyType, Kind
from tests.support.letters import letter

RETURN_PATH = "bounce+c77.abcdef@news.shop.example"


@pytest.mark.parametrize("rule", rules(), ids=lambda r: r.id)
def test_each_rule_finds_its_example_and_not_its_counter_example(rule: Rule) -> None:
    alone = Rulebook([rule])
    assert alone.search(rule.example)
    assert not alone.search(rule.counter_example)


def test_the_languages_that_the_product_promises() -> None:
    promised = (
        "en de fr es it pt nl sv da nb fi is et lv lt pl cs sk hu ro bg sr hr sl mk sq el tr ru uk be ka hy az kk he "
        "ar fa ur hi bn ta te th vi id tl zh ja ko sw af ca eu gl cy ga mt"
    )  # fmt: skip
    assert set(promised.split()) <= book().languages.keys()


@pytest.mark.parametrize(
    ("headers", "subject", "kind"),
    [
        ("Auto-Submitted: auto-replied", "Hello", Kind.AUTO_REPLY),
        ("X-Autoreply: yes", "Hello", Kind.AUTO_REPLY),
        ("Precedence: auto_reply", "Hello", Kind.AUTO_REPLY),
        ("Auto-Submitted: auto-generated\nX-Auto-Response-Suppress: All\nReturn-Path: <>", "Hello", Kind.AUTO_REPLY),
        ("", "Automatische Antwort: Herbst", Kind.AUTO_REPLY),
        ("", "Ārpus biroja: jaunumi", Kind.AUTO_REPLY),
        ("", "自動返信: 12月のお知らせ", Kind.AUTO_REPLY),
        ("Auto-Submitted: no", "Hello", Kind.HUMAN),
        ("Auto-Submitted: auto-generated", "Backup finished", Kind.REPORT),
        ('Auto-Submitted: auto-notified; owner-email="bob@client.example"', "New message", Kind.REPORT),
        ("Precedence: bulk", "Our spring catalogue", Kind.OTHER),
        ("List-Id: <knitting.lists.example>\nPrecedence: list", "Patterns", Kind.OTHER),
    ],
)
def test_who_sent_it(headers: str, subject: str, kind: Kind) -> None:
    assert classify(letter("A plain line of text.", headers=headers, subject=subject)).kind is kind


def test_an_unknown_null_path_is_taken_from_the_envelope() -> None:
    raw = letter("Ich bin nicht im Büro.", subject="Herbst")
    assert classify(raw, Context(envelope_from="")).kind is Kind.AUTO_REPLY


@pytest.mark.parametrize(
    "to",
    ["unsub+745e3a0075de7ddf@news.shop.example", "knitting-unsubscribe@lists.example", "leave-77-1234@lists.example",
     "unsubscribe-knitting=bob=client.example@lists.example", "x@unsub.shop.example"],
)  # fmt: skip
def test_an_empty_message_to_an_unsubscribe_address(to: str) -> None:
    verdict = classify(letter("", to=to, subject=""))
    assert (verdict.kind, verdict.opt_out) == (Kind.UNSUBSCRIBE, True)


def test_a_title_of_two_matters_is_a_letter() -> None:
    text = "I am on holiday from Monday for two weeks. The samples left today."
    assert classify(letter(text, subject="Holiday and samples")).kind is Kind.HUMAN
    assert classify(letter(text.partition(".")[0] + ".", subject="Holiday")).kind is Kind.AUTO_REPLY


def test_who_asks_from_elsewhere_wants_out_what_the_return_path_names() -> None:
    verdict = classify(letter("Please unsubscribe me.", to="bounces+92569-ann=dest.example@news.shop.example"))
    assert verdict.kind is Kind.UNSUBSCRIBE
    assert [r.address for r in verdict.recipients] == ["ann@dest.example", "bob@client.example"]


def test_a_configured_unsubscribe_address_and_its_token() -> None:
    context = Context(
        envelope_to=("stop.me+ann=client.example@shop.example",), patterns=Patterns(unsubscribe_addresses=("stop.me*",))
    )
    verdict = classify(letter("", subject=""), context)
    assert verdict.kind is Kind.UNSUBSCRIBE
    assert [r.address for r in verdict.recipients] == ["ann@client.example"]


@pytest.mark.parametrize(
    "word", ["unsubscribe", "STOP", "Abmelden bitte", "désabonnement", "退订", "수신거부", "отписаться", "TD"]
)
def test_a_message_of_one_word(word: str) -> None:
    assert classify(letter(word, answers=True)).kind is Kind.UNSUBSCRIBE
    assert classify(letter("Sent from my iPhone", subject=word)).kind is Kind.UNSUBSCRIBE


@pytest.mark.parametrize(
    "quote",
    [
        "On 24 Nov 2026 at 03:02, Shop <news@shop.example> wrote:\n> Unsubscribe me from your list\n> This is spam",
        "___________\nFrom: Shop <news@shop.example>\nSent: Tuesday\nTo: Bob\nSubject: x\n\nUnsubscribe me",
        "-----Ursprüngliche Nachricht-----\nVon: Shop\nGesendet: heute\n\nBitte melden Sie mich ab",
        "Am 24.11.2026 um 03:02 schrieb Shop <news@shop.example>:\n> Newsletter abbestellen",
        "-- \nThis is spam, unsubscribe me",
        "Fra: Shop <news@shop.example>\nSendt: i dag\nTil: Bob\nEmne: x\n\nFjern mig fra listen",
    ],
)
def test_nothing_is_decided_from_quoted_text(quote: str) -> None:
    assert classify(letter(f"Lovely pictures this month.\n\n{quote}", answers=True)).kind is Kind.HUMAN


def test_an_answer_below_the_quote_is_read() -> None:
    assert new_text("On 1 May 2026 Shop <a@b.example> wrote:\n> hello\n> there\n\nPlease stop.") == "Please stop."


def test_a_wish_beside_an_order_stays_with_a_person_and_is_marked() -> None:
    verdict = classify(letter("Please unsubscribe me. And where is my order 4711?", answers=True))
    assert (verdict.kind, verdict.opt_out) == (Kind.HUMAN, True)
    assert verdict.alternatives


def test_the_address_that_the_text_names_comes_first() -> None:
    verdict = classify(letter("Please remove old.bob@client.example from your list.", answers=True))
    assert [r.address for r in verdict.recipients] == ["old.bob@client.example", "bob@client.example"]


@pytest.mark.parametrize(
    ("text", "kind", "returns", "new"),
    [
        ("I am out of the office until 7 December.", AutoReplyType.VACATION, "2026-12-07", None),
        ("Ich bin vom 23.12. bis zum 04.01. im Urlaub.", AutoReplyType.VACATION, "2027-01-04", None),
        ("Je suis absente jusqu'au 3 janvier 2027.", AutoReplyType.VACATION, "2027-01-03", None),
        ("Jestem na urlopie do 12 grudnia.", AutoReplyType.VACATION, "2026-12-12", None),
        ("12月7日まで不在にしております。", AutoReplyType.VACATION, "2026-12-07", None),
        ("אני מחוץ למשרד עד 12 בדצמבר.", AutoReplyType.VACATION, "2026-12-12", None),
        ("I am out of the office until 05/07/2027.", AutoReplyType.VACATION, None, None),
        (
            "Bob Tester no longer works here. Please write to ann@client.example.",
            AutoReplyType.LEFT,
            None,
            "ann@client.example",
        ),
        (
            "My new address is bob@new.example; please update your address book.",
            AutoReplyType.MOVED,
            None,
            "bob@new.example",
        ),
        ("This mailbox is not monitored.", AutoReplyType.UNMONITORED, None, None),
        ("Your request has been received and a ticket has been created.", AutoReplyType.TICKET, None, None),
    ],
)
def test_what_an_automatic_answer_tells(text: str, kind: AutoReplyType, returns: str | None, new: str | None) -> None:
    reply = classify(letter(text, to=RETURN_PATH, subject="Herbst")).auto_reply
    assert reply is not None
    assert (reply.type, reply.returns_on, reply.new_address) == (kind, returns, new)


def test_dates_without_a_year_need_the_time_of_sending() -> None:
    assert returns_on("back on 7 december", None, None) is None
    assert returns_on("back on 7 december", None, 2026) == "2026-12-07"
    assert returns_on("until 2026/12/07", None, None) == "2026-12-07"
    assert returns_on("until 31 february 2026", None, None) is None


def test_the_address_sent_to_is_the_original() -> None:
    verdict = classify(
        letter("I am out of the office.", to="bounce+ann=client.example@news.shop.example", subject="Herbst")
    )
    assert [(r.address, r.original) for r in verdict.recipients] == [("bob@client.example", "ann@client.example")]


@pytest.mark.parametrize(
    "text",
    ["Please click the link below to prove that you are human.",
     "Your message was held. To have it delivered, confirm that you sent it by replying.",
     "I only accept mail from people I know; click here to be added to my approved senders list."],
)  # fmt: skip
def test_a_challenge_is_no_auto_reply(text: str) -> None:
    assert classify(letter(text)).kind is Kind.CHALLENGE_RESPONSE


@pytest.mark.parametrize(
    "text",
    [
        "잘 받았습니다. 감사합니다.",
        "东西收到了,质量不好,抱歉我不要了。",
        "Tôi nhận hàng rồi, không đúng màu. Xin lỗi, tôi không giữ.",
        "สีไม่ตรงกับรูป ขอโทษ ไม่เอาแล้ว",
    ],
)
def test_thanks_and_excuses_of_a_person_are_no_notice(text: str) -> None:
    assert classify(letter(text, to="return@bounces.example.com", subject="Shop")).kind is Kind.HUMAN


def test_hotmail_complaints_without_a_feedback_report() -> None:
    raw = (
        b"From: staff@hotmail.com\nTo: fbl@shop.example\nSubject: complaint about message from 192.0.2.17\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: message/rfc822\n\nX-HmXmrOriginalRecipient: ann@live.example\nFrom: news@shop.example\n"
        b"To: ann@live.example\nSubject: Spring\n\nHello\n"
    )
    verdict = classify(raw)
    assert verdict.kind is Kind.COMPLAINT
    assert [r.address for r in verdict.recipients] == ["ann@live.example"]


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("Report Domain: shop.example Submitter: mx.example Report-ID: 1", Kind.REPORT),
        ("Gelesen: Herbst", Kind.RECEIPT),
    ],
)
def test_machines_without_structure(subject: str, kind: Kind) -> None:
    assert classify(letter("See above.", subject=subject)).kind is kind


def test_folding_makes_one_spelling_of_many() -> None:
    assert fold("Ｉ’m  OUT\n of\u00a0Büro…") == "i'm out of buro..."
    assert fold("İzin ÇIKAR ışık") == "izin cikar isik"
    assert fold("不在に\nしております") == "不在にしております"


@given(st.text(max_size=400), st.text(max_size=60))
def test_any_text_is_judged(text: str, subject: str) -> None:
    subject = " ".join(subject.split())
    verdict = classify(
        letter(text.encode("utf-8", "replace").decode(), subject=subject.encode("utf-8", "replace").decode())
    )
    assert not verdict.unparsable


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "on 1 wrote: " * 100_000, "> \n" * 300_000, "unsubscribe me " * 70_000, "1.2.3." * 100_000],
)
def test_long_texts_are_judged_by_their_head(text: str) -> None:
    assert not classify(letter(text)).unparsable


def test_an_envelope_sender_that_names_its_reader_is_a_return_path_in_any_language() -> None:
    text = "Je suis en arrêt maladie. Votre message n'est pas transféré : merci d'écrire à accueil@mairie.example."
    seen = [
        "to-return-path" in " ".join(e.rule for e in classify(letter(text, to=to)).evidence)
        for to in ("retour-31-bob=client.example@mail.shop.example", "reply-31-bob=client.example@mail.shop.example")
    ]
    assert seen == [True, False]


def test_an_absence_answers_at_an_unsubscribe_address_too() -> None:
    to = "unsubscribe-7c2@list.shop.example"
    away = "I am out of the office until 12 May. In urgent cases please call Ann Hill, 01632 960960."
    assert classify(letter(away, to=to, answers=True)).kind is Kind.AUTO_REPLY
    for text in ("", "I have retired.", "I am on leave for a year, please stop the mails."):
        assert classify(letter(text, to=to, answers=True)).kind is Kind.UNSUBSCRIBE


def test_who_wants_an_answer_is_read_at_an_unsubscribe_address() -> None:
    to = "unsubscribe-7c2@list.shop.example"
    for text in (
        "No me quiero dar de baja, sólo cambiar de dirección: escribidme a eva@dest.example. ¿Lo podéis hacer?",
        "We still get the paper one. Could you please send me the price list for schools?",
    ):
        assert classify(letter(text, to=to)).kind is Kind.HUMAN
    assert classify(letter("Could you please take me off your list?", to=to)).kind is Kind.UNSUBSCRIBE


ADDRESSES = ("unsubscribe-7c2@list.shop.example", "newsletter@news.shop.example")
LEAVE = (Path(__file__).parent / "who_leaves.txt").read_text("utf-8").splitlines()
STAY = (Path(__file__).parent / "who_stays.txt").read_text("utf-8").splitlines()
LETTERS = (
    (
        "Sehr geehrte Damen und Herren, hiermit kündige ich meinen Vertrag mit dem Studio zum Jahresende. "
        "Bestätigen Sie mir bitte die Kündigung und ziehen Sie ab Januar nichts mehr ein."
    ),
    (
        "I have to cancel the Pilates course from March on, as we move to Leeds. Two months are paid "
        "already, so kindly settle those with the account that I paid from."
    ),
    (
        "Θέλω να διακόψω τη συνδρομή μου στο γυμναστήριο από τον Ιανουάριο, γιατί αλλάζω πόλη. Έχετε ήδη "
        "χρεώσει τον επόμενο μήνα στην κάρτα μου."
    ),
    (
        "예매한 공연표 두 장을 취소하고 싶습니다. 어제 결제했는데 날짜를 잘못 골랐습니다. 수수료가 얼마인지 "
        "알려 주세요. 회원 번호는 2210입니다."
    ),
)


@pytest.mark.parametrize("text", LETTERS)
def test_a_letter_to_an_unsubscribe_address_is_read(text: str) -> None:
    verdict = classify(letter(text, to="unsubscribe-7c2@list.shop.example"))
    assert (verdict.kind, verdict.opt_out) == (Kind.HUMAN, True)  # somebody reads it, and no more mail is sent
    assert verdict.alternatives[0][0] is Kind.UNSUBSCRIBE


def test_a_signature_below_a_request_is_no_letter() -> None:
    signed = (
        "Hill & Sons Ltd, Registered in England 0123456\n12 Canal Street, Unit 4, Manchester M1 3WD\n"
        "Tel 01632 960960, Fax 01632 960961, www.hill.example\nThe Complete Supplier of Pumps and Valves since 1954"
    )
    to = "unsubscribe-7c2@list.shop.example"
    assert classify(letter(signed, subject="unsubscribe", to=to)).kind is Kind.UNSUBSCRIBE
    assert classify(letter(signed, subject="Pumps", to=to)).kind is Kind.HUMAN


@pytest.mark.parametrize("to", ADDRESSES)
@pytest.mark.parametrize("text", STAY, ids=[text.split()[0] for text in STAY])
def test_who_stays_wants_no_end(text: str, to: str) -> None:
    verdict = classify(letter(text.partition(" ")[2], to=to, answers=True))
    assert (verdict.kind, verdict.opt_out) == (Kind.HUMAN, False)


@pytest.mark.parametrize("to", ADDRESSES)
@pytest.mark.parametrize("text", LEAVE, ids=[text.split()[0] for text in LEAVE])
def test_who_complains_that_leaving_is_hard_wants_out(text: str, to: str) -> None:
    assert classify(letter(text.partition(" ")[2], to=to, answers=True)).opt_out


def test_how_to_get_out_is_no_request() -> None:
    news = "Die Bücherei hat am Samstag länger offen. Um sich abzumelden, schreiben Sie an rundbrief@ort.example."
    assert not classify(letter(news, subject="Rundbrief 48")).opt_out
    assert classify(letter("Ich möchte mich abmelden, schreiben Sie mir nicht mehr.")).opt_out


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I ordered the oak table and would like to have it delivered, please confirm the date.", Kind.HUMAN),
        ("Это спам. Я подам жалобу, и жалобу не одну.", Kind.COMPLAINT),
        ("Ich übergebe eure Werbemails Rechtsanwalt Meier, das ist Spam.", Kind.COMPLAINT),
    ],
)
def test_words_that_look_like_something_else(text: str, kind: Kind) -> None:
    assert classify(letter(text, answers=True)).kind is kind
