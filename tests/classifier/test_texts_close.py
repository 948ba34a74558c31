"""Messages close to something else, whose fields tell: groups, commands, programs' digests, bills and bots."""

from __future__ import annotations

import pytest

from classifier import classify
from classifier.verdict import AutoReplyType, Kind
from tests.support.letters import letter

GROUP = "list-news@club.example"
LISTED = (
    "Precedence: list\nList-Id: <list-news.club.example>\nList-Post: <mailto:list-news@club.example>\n"
    "List-Unsubscribe: <mailto:manage+unsubscribe@groups.example>"
)


@pytest.mark.parametrize(
    ("author", "text", "kind"),
    [
        (f"The Club <{GROUP}>", "Is the walk on Saturday or on Sunday?", Kind.HUMAN),
        (f"The Club <{GROUP}>", "Please take me off the list.", Kind.UNSUBSCRIBE),
        ("Eva Lind <eva@dest.example>", "Is the walk on Saturday or on Sunday?", Kind.OTHER),
    ],
)
def test_who_answers_us_through_a_group_is_read(author: str, text: str, kind: Kind) -> None:
    quoted = f"{text}\n\nOn Tue, 24 Nov 2026 at 10:00, {author} wrote:\n> The walk, and more in November."
    assert classify(letter(quoted, to=GROUP, subject="Re: November", headers=LISTED)).kind is kind


@pytest.mark.parametrize(
    ("subject", "person"),
    [
        ("unsub:77ac01:202:eva=dest.example", "eva@dest.example"),
        ("unsubscribe-eva=dest.example", "eva@dest.example"),
        ("Unsubscribe: 8f00c2", "bob@client.example"),
        ("leave-4411.c0ffee", "bob@client.example"),
    ],
)
def test_a_command_with_a_token_is_the_request(subject: str, person: str) -> None:
    verdict = classify(letter("", to="out@news.shop.example", subject=subject))
    assert (verdict.kind, verdict.opt_out) == (Kind.UNSUBSCRIBE, True)
    assert person in {r.address for r in verdict.recipients}


@pytest.mark.parametrize("subject", ["leave-taking", "Remove: the blue one"])
def test_words_with_a_dash_are_no_command(subject: str) -> None:
    assert classify(letter("The blue one has a crack.", subject=subject)).kind is Kind.HUMAN


@pytest.mark.parametrize(
    "subject",
    [
        "Spam quarantine summary: 4 messages",
        "Quarantäne-Übersicht: 2 neue Nachrichten",
        "Résumé de quarantaine pour eva@dest.example",
        "Resumen de cuarentena: 3 mensajes",
        "Zpráva o karanténě - 1 zpráva",
        "Karanteeni: 2 uutta viestiä",
        "Уведомление о карантине: 3 письма",
        "隔離メールの通知",
        "BOUNCE walkers@club.example:    Approval required",
        "Walkers post from eva@dest.example requires approval",
    ],
)
def test_what_waits_to_be_let_in_is_a_programs(subject: str) -> None:
    text = "eva@dest.example  Catalogue  24.11.2026  https://gate.example/1"
    assert classify(letter(text, subject=subject)).kind is Kind.OTHER


@pytest.mark.parametrize("subject", ["Re: Spam quarantine summary", "Quarantine report from Bali"])
def test_who_writes_of_a_quarantine_is_a_person(subject: str) -> None:
    assert classify(letter("Ten days in a hotel, and your letter cheered me up.", subject=subject)).kind is Kind.HUMAN


@pytest.mark.parametrize(
    ("text", "subject", "sender"),
    [
        (
            (
                "Anbei erhalten Sie Ihre Rechnung. 48,20 EUR werden am 3.12. von Ihrem Konto abgebucht.\n"
                "Bitte antworten Sie nicht auf diese E-Mail."
            ),
            "Rechnung 4711",
            "Wasserwerk <service@wasser.example>",
        ),
        (
            "Veuillez trouver ci-joint votre facture. Merci de ne pas répondre à ce message.",
            "Facture 4711",
            "Eaux <service@eaux.example>",
        ),
        ("Hostitel: web02\nZávažnost: vysoká", "Disk je plný", "Zabbix <zabbix@ops.example>"),
        (
            "Je suis prêteur particulier, j'offre des prêts de 3000 € à 80.000 € au taux de 3%.",
            "PRET",
            "Marc <info@pret.example>",
        ),
    ],
)
def test_bills_monitors_and_lenders(text: str, subject: str, sender: str) -> None:
    to = "undisclosed-recipients:;" if "prêt" in text else "office@shop.example"
    assert classify(letter(text, subject=subject, sender=sender, to=to)).kind is Kind.OTHER


def test_a_ticket_system_answers_with_links_that_ask_nothing() -> None:
    text = (
        "Reply above this line.\n\nYour request has been logged as SHP-204 and is waiting for the desk.\n"
        "View request: https://desk.example/portal/SHP-204?token=abc"
    )
    verdict = classify(letter(text, subject="SHP-204 Winter sale", headers="Auto-Submitted: auto-generated"))
    assert verdict.auto_reply is not None
    assert verdict.auto_reply.type is AutoReplyType.TICKET


def test_who_has_gone_and_whom_to_write_to_instead() -> None:
    text = "Jan Holm no longer works here. Please write to desk@dest.example and delete this address from your records."
    verdict = classify(letter(text))
    assert verdict.auto_reply is not None
    assert (verdict.auto_reply.type, verdict.auto_reply.new_address) == (AutoReplyType.LEFT, "desk@dest.example")


def test_how_to_sign_off_the_dead_is_a_question() -> None:
    assert classify(letter("My father died in May. How do I get him off your list?")).kind is Kind.HUMAN


def test_an_address_within_a_sentence_does_not_end_it() -> None:
    text = (
        "My husband died in May. I am sorting his affairs and would ask you to stop the letters to "
        "j.holm@dest.example which upset us both."
    )
    assert classify(letter(text)).kind is Kind.UNSUBSCRIBE
