"""When somebody is back: the ways in which some fifty languages write a day."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import classify
from classifier.texts.calendars import FIRST_YEAR, LAST_YEAR, persian
from classifier.texts.dates import returns_on
from tests.support.letters import letter

DAYS = [
    ("2026-12-07", "I am out of the office until 7 December."),
    ("2026-12-07", "Out of office from 30 November through 4 December, back on Monday 7 December."),
    ("2026-12-07", "I will be on leave until December 7th, 2026."),
    ("2026-12-07", "I'm away until 7 Dec."),
    ("2026-12-14", "I'm away until the 14th."),
    ("2026-12-28", "I am on vacation from 12/18/2026 to 12/28/2026."),
    ("2027-01-04", "I'm out of the office and will return on 2027-01-04."),
    ("2027-01-09", "Ich bin bis zum 9. Januar im Urlaub."),
    ("2027-01-02", "Ich bin vom 23.12. bis 02.01. nicht im Büro."),
    ("2026-12-07", "Ich bin ab dem 7.12.2026 wieder im Büro."),
    ("2027-01-01", "Je suis absent jusqu'au 1er janvier inclus."),
    ("2027-01-03", "Je suis en congé du 20/12 au 03/01/2027."),
    ("2027-01-07", "Estaré de vacaciones hasta el 7 de enero de 2027."),
    ("2027-01-07", "Sono in ferie fino al 7 gennaio 2027."),
    ("2027-01-06", "Sono assente dal 24/12 al 06/01."),
    ("2027-01-07", "Estou de férias até 7 de janeiro."),
    ("2027-01-05", "Ik ben met vakantie t/m 5 januari."),
    ("2027-01-08", "Jag har semester till och med den 8 januari."),
    ("2027-01-05", "Jeg er på ferie til den 5. januar."),
    ("2027-01-05", "Jeg har ferie t.o.m. 5. januar."),
    ("2027-01-07", "Olen lomalla 7.1.2027 asti."),
    ("2027-01-07", "Olen lomalla 7. tammikuuta saakka."),
    ("2027-01-07", "Ég er í fríi til 7. janúar."),
    ("2027-01-07", "Olen puhkusel kuni 7. jaanuarini."),
    ("2027-01-07", "Esmu atvaļinājumā līdz 7. janvārim."),
    ("2027-01-07", "Atostogauju iki sausio 7 d."),
    ("2027-01-07", "Jestem na urlopie do 7 stycznia."),
    ("2027-01-07", "Jsem na dovolené do 7. ledna."),
    ("2027-01-07", "Som na dovolenke do 7. januára."),
    ("2027-01-07", "Szabadságon vagyok január 7-ig."),
    ("2027-01-07", "Sunt în concediu până pe 7 ianuarie."),
    ("2027-01-07", "В отпуск съм до 7 януари."),
    ("2027-01-07", "Na godišnjem sam do 7. siječnja."),
    ("2027-01-07", "На годишњем одмору сам до 7. јануара."),
    ("2027-01-07", "Na dopustu sem do 7. januarja."),
    ("2027-01-07", "На одмор сум до 7 јануари."),
    ("2027-01-07", "Jam me pushime deri më 7 janar."),
    ("2027-01-07", "Είμαι σε άδεια έως τις 7 Ιανουαρίου."),
    ("2027-01-07", "7 Ocak 2027'ye kadar izindeyim."),
    ("2027-01-07", "Я в отпуске до 7 января."),
    ("2027-01-08", "Я в отпуске с 28.12.2026 по 08.01.2027."),
    ("2027-01-07", "Я у відпустці до 7 січня."),
    ("2027-01-07", "Я ў адпачынку да 7 студзеня."),
    ("2027-01-07", "შვებულებაში ვარ 7 იანვრამდე."),
    ("2027-01-07", "Արձակուրդում եմ մինչև հունվարի 7-ը։"),
    ("2027-01-07", "7 yanvara qədər məzuniyyətdəyəm."),
    ("2027-01-07", "7 қаңтарға дейін демалыстамын."),
    ("2027-01-07", "אני בחופשה עד 7 בינואר."),
    ("2027-01-07", "أنا في إجازة حتى 7 يناير."),
    ("2027-01-07", "أنا في إجازة حتى ٧ يناير."),
    ("2027-01-07", "تا ۷ ژانویه در مرخصی هستم."),
    ("2027-01-07", "تا ۱۷ دی در مرخصی هستم."),
    ("2027-01-07", "تا ۱۴۰۵/۱۰/۱۷ در مرخصی هستم."),
    ("2027-01-07", "میں 7 جنوری تک چھٹی پر ہوں۔"),
    ("2027-01-07", "मैं 7 जनवरी तक छुट्टी पर हूँ।"),
    ("2027-01-07", "मैं ७ जनवरी तक छुट्टी पर हूँ।"),
    ("2027-01-07", "আমি ৭ জানুয়ারি পর্যন্ত ছুটিতে আছি।"),
    ("2027-01-07", "நான் ஜனவரி 7 வரை விடுமுறையில் உள்ளேன்."),
    ("2027-01-07", "నేను జనవరి 7 వరకు సెలవులో ఉన్నాను."),
    ("2027-01-07", "ผมลาพักร้อนถึงวันที่ 7 มกราคม 2570"),
    ("2027-01-07", "ลาพักร้อนถึง 7 ม.ค. 70"),
    ("2027-01-07", "Tôi đang nghỉ phép đến ngày 7 tháng 1."),
    ("2027-01-07", "Tôi nghỉ phép đến hết ngày 07/01/2027."),
    ("2027-01-07", "Saya sedang cuti sampai 7 Januari."),
    ("2027-01-07", "Naka-leave ako hanggang Enero 7."),
    ("2027-01-07", "我正在休假,1月7日返回。"),
    ("2027-01-07", "本人休假至2027年1月7號。"),
    ("2026-12-31", "本人於12/20至12/31請假"),
    ("2027-01-07", "1月7日まで休暇をいただいております。"),
    ("2027-01-07", "令和9年1月7日まで不在です。"),
    ("2027-01-07", "休暇中です(12/28~1/7)。"),
    ("2027-01-07", "1월 7일까지 휴가입니다."),
    ("2027-01-07", "휴가 기간: 2027.01.04 ~ 2027.01.07"),
    ("2027-01-07", "Niko likizo hadi tarehe 7 Januari."),
    ("2027-01-07", "Ek is met verlof tot 7 Januarie."),
    ("2027-01-07", "Sóc de vacances fins al 7 de gener."),
    ("2027-01-07", "Oporretan nago urtarrilaren 7ra arte."),
    ("2027-01-07", "Estou de vacacións ata o 7 de xaneiro."),
    ("2027-01-07", "Rwyf ar wyliau tan 7 Ionawr."),
    ("2027-01-07", "Táim ar saoire go dtí an 7 Eanáir."),
    ("2027-01-07", "Qiegħed bil-leave sas-7 ta' Jannar."),
]


@pytest.mark.parametrize(("day", "text"), DAYS, ids=lambda value: value[:24])
def test_the_day_of_return(day: str, text: str) -> None:
    reply = classify(letter(text, headers="Auto-Submitted: auto-replied", subject="Auto")).auto_reply
    assert reply is not None
    assert reply.returns_on == day


@pytest.mark.parametrize(
    "text", ["I am away until 05/07/2027.", "I am away until 31 February.", "Call 12/34/56 78.", "Open 10.30-12.15."]
)
def test_no_date_is_better_than_a_wrong_one(text: str) -> None:
    assert returns_on(text.lower(), "Tue, 24 Nov 2026 10:00:00 +0000", None, frozenset({"en"})) is None


def test_days_of_the_persian_calendar() -> None:
    assert persian(1405, 10, 17) == dt.date(2027, 1, 7)
    assert persian(1403, 12, 30) == dt.date(2025, 3, 20)
    assert persian(1404, 12, 30) is None
    assert persian(LAST_YEAR + 1, 1, 1) is None


@given(st.integers(FIRST_YEAR, LAST_YEAR - 1))
def test_a_persian_year_follows_upon_the_last(year: int) -> None:
    last = persian(year, 12, 30) or persian(year, 12, 29)
    following = persian(year + 1, 1, 1)
    assert last is not None
    assert following == last + dt.timedelta(1)
    assert following.month == 3
