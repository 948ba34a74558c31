"""The arguments of MAIL and RCPT: what is read off them, and what is refused, relaying above all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.address import AddressError, Domains, has_control, parse_mail, parse_rcpt


@pytest.mark.parametrize(
    ("arg", "local", "domain"),
    [
        (b"<>", b"", b""),
        (b"<a@b.example>", b"a", b"b.example"),
        (b'<"a@b>c"@d.example>', b'"a@b>c"', b"d.example"),
        (b'<"a\\"b"@d.example>', b'"a\\"b"', b"d.example"),
        (b"<user%elsewhere.example@d.example>", b"user%elsewhere.example", b"d.example"),
        (b"<elsewhere!user@d.example>", b"elsewhere!user", b"d.example"),
        (b"<b+user=x..y.=carrier.example@d.example>", b"b+user=x..y.=carrier.example", b"d.example"),
        (b"<a@[192.0.2.1]>", b"a", b"[192.0.2.1]"),
        (b"<a@[IPv6:2001:db8::1]>", b"a", b"[IPv6:2001:db8::1]"),
        (b"<" + b"v" * 200 + b"@d.example>", b"v" * 200, b"d.example"),
    ],
)
def test_good_addresses(arg: bytes, local: bytes, domain: bytes) -> None:
    path = parse_mail(arg)
    assert (path.local, path.domain) == (local, domain)


@pytest.mark.parametrize(
    "arg",
    [
        b"", b"a@b.example", b"<a@b.example", b"a@b.example>", b"<a>", b"<@a.example:b@c.example>", b"<a@>",
        b"<@b.example>", b"<a@b@c.example>", b"<a b@c.example>", b"<a(b)@c.example>", b"<a@b..example>",
        b"<a@-b.example>", b"<a@b.example.>", b"<a@[300.0.0.1]>", b"<a@[IPv6:zz]>", b"<a@[1.2.3.4>",
        b"<a@b.example>SIZE=1", b'<"a@b.example>', b'<"a"b@c.example>', b"<a@" + b"x" * 64 + b".example>",
        b"<a@" + b"x." * 130 + b"example>", b"<a,b@c.example>", b"<a@b.example> SIZE=1 SIZE=2", b"<a@b.example> =1",
    ],
)  # fmt: skip
def test_bad_addresses_are_501(arg: bytes) -> None:
    with pytest.raises(AddressError, match=r"^501 "):
        parse_mail(arg)


@pytest.mark.parametrize(
    ("arg", "reply"),
    [
        (b"<a@b.example> SIZE=x", "501"),
        (b"<a@b.example> SIZE=" + b"9" * 21, "501"),
        (b"<a@b.example> BODY=BINARYMIME", "501"),
        (b"<a@b.example> AUTH=<>", "555"),
        (b"<a@b.example> XYZ", "555"),
        (b"<a@b.example> SMTPUTF8=1", "501"),
        ("<ü@b.example>".encode(), "553"),
        (b"<\xff@b.example> SMTPUTF8", "501"),
    ],
)
def test_bad_mail_parameters(arg: bytes, reply: str) -> None:
    with pytest.raises(AddressError, match=f"^{reply} "):
        parse_mail(arg)


def test_parameter_values_are_kept_as_received() -> None:
    path = parse_mail("<ü@b.example> size=10  BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=Qq+3D1".encode())
    assert path.params == {b"SIZE": b"10", b"BODY": b"8bitmime", b"SMTPUTF8": b"", b"RET": b"hdrs", b"ENVID": b"Qq+3D1"}


def test_recipients() -> None:
    assert parse_rcpt(b"<PostMaster>", smtputf8=False).domain == b""
    path = parse_rcpt(b"<a@b.example> NOTIFY=NEVER ORCPT=rfc822;A=B@c", smtputf8=False)
    assert path.params == {b"NOTIFY": b"NEVER", b"ORCPT": b"rfc822;A=B@c"}
    for arg, reply in ((b"<>", "501"), (b"<a@b.example> SIZE=1", "555"), ("<ü@b.example>".encode(), "553")):
        with pytest.raises(AddressError, match=f"^{reply} "):
            parse_rcpt(arg, smtputf8=False)
    assert parse_rcpt("<ü@b.example>".encode(), smtputf8=True).local == "ü".encode()


def test_domains() -> None:
    domains = Domains(["Bounces.Example", "*.verp.example", "müller.example"])
    assert b"BOUNCES.example" in domains
    assert b"sub.bounces.example" not in domains
    assert b"a.verp.example" in domains
    assert b"a.b.verp.example" in domains
    assert b"verp.example" not in domains
    assert b"xverp.example" not in domains
    assert "MÜLLER.example".encode() in domains
    assert b"XN--mller-kva.example" in domains
    assert b"[192.0.2.1]" not in domains
    assert b"" not in domains
    assert b"\xff.example" not in domains


@pytest.mark.parametrize("name", ["", "*.", "a b", "a..b", "*", "a@b", ".a"])
def test_bad_configured_domains(name: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        Domains([name])


bracketed = st.lists(st.sampled_from(list(b'<>@".\\[]: =ab1\xc3\xbc\xff,')), max_size=30).map(bytes)


@given(st.one_of(st.binary(max_size=80), bracketed, bracketed.map(lambda inner: b"<" + inner + b"@bounces.example>")))
def test_the_scanner_raises_nothing_but_its_own_error(arg: bytes) -> None:
    domains = Domains(["bounces.example"])
    for scan in (parse_mail, lambda a: parse_rcpt(a, smtputf8=True), lambda a: parse_rcpt(a, smtputf8=False)):
        try:
            path = scan(arg)
        except AddressError as error:
            reply = error.reply
        else:
            reply = ""
            assert arg.startswith(b"<" + path.address + b">")
            if path.domain in domains:  # nothing after the last unquoted @ but our domain: no relay through us
                assert path.address.lower().endswith(b"@bounces.example")
        assert reply[:3] in {"", "501", "553", "555"}
        assert reply.isascii()


@pytest.mark.parametrize(
    ("domain", "ours"),
    [
        ("BÜCHER.wild.example", True),
        ("bu\u0308cher.wild.example", True),
        ("bounces。example。com", False),
        ("ｂounces.example.com", False),
        ("bounces\u00ad.example.com", False),
        ("evil.example\u200b.wild.example", False),
        ("evil＠x.wild.example", False),
        ("x\u2024wild.example", False),
    ],
)
def test_nothing_that_only_looks_like_a_name_is_ours(domain: str, ours: bool) -> None:
    """What maps to ASCII or to nothing is no U-label: a handler that maps less would take it for foreign."""
    assert (domain.encode() in Domains(["bounces.example.com", "*.wild.example"])) == ours


@pytest.mark.parametrize("control", ["\x85", "\x9b", "\u2028", "\u2029"])
def test_controls_in_utf8_are_controls(control: str) -> None:
    assert has_control(f"RCPT TO:<a{control}b@bounces.example.com>".encode())
    assert not has_control("RCPT TO:<é…—日@bounces.example.com>".encode())
