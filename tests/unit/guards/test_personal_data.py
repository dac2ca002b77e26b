"""What is taken for personal data, and what is not."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.guards import personal_data
from tasks.guards.personal_data import NAMES, OVERLAP, WINDOW, Found, find, in_words, masked, without_overlaps

PERSONAL = [
    ("write to eve@example.org, please", "write to <EMAIL_ADDRESS>, please"),
    ("mail a.b+c@sub.corp.internal.", "mail <EMAIL_ADDRESS>."),
    ("EVE@EXAMPLE.ORG or eve@münchen.de", "<EMAIL_ADDRESS> or <EMAIL_ADDRESS>"),
    ("call +49 30 901820", "call <PHONE_NUMBER>"),
    ("(415) 555-2671 or 415-555-2671", "<PHONE_NUMBER> or <PHONE_NUMBER>"),
    ("phone: 4155552671", "phone: <PHONE_NUMBER>"),
    ("+442079460958", "<PHONE_NUMBER>"),
    ("06 12 34 56 78", "<PHONE_NUMBER>"),
    ("card 4111 1111 1111 1111", "card <CREDIT_CARD>"),
    ("5555555555554444 and 3782 822463 10005", "<CREDIT_CARD> and <CREDIT_CARD>"),
    ("IBAN DE89 3704 0044 0532 0130 00", "IBAN <IBAN_CODE>"),
    ("GB82WEST12345698765432", "<IBAN_CODE>"),
    ("from 203.0.113.7 and 10.1.2.3", "from <IP_ADDRESS> and <IP_ADDRESS>"),
    ("2001:db8:85a3::8a2e:370:7334", "<IP_ADDRESS>"),
    ("SSN 536-90-4399", "SSN <US_SSN>"),
    ("NI number AB 12 34 56 C", "NI number <UK_NINO>"),
    ("RSSMRA85T10A562S", "<IT_FISCAL_CODE>"),
    ("to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "to <CRYPTO>"),
]
HARMLESS = [
    "How often is the filter replaced, every 400 hours or every 1,600?",
    "2026-11-27 02:24:04", "on 27.11.2026, 11/27/2026 and 2026-11-27", "between 2023-2024 and 2025",
    "lodash@4.17.21", "git@host", "@decorator", "127.0.0.1:19530", "0.0.0.0", "netmask 255.255.255.0", "::1",
    "version 2.3.5 on port 19530", "std::vector a::b dead::beef", "12:30:15", "1700000000000", "1700000000",
    "4111 1111 1111 1112", "10 000 000 rows", "123456789", "9e107d9d372bb6826bd81d3542a419d6",
    "ISBN 978-3-16-148410-0", "4155552671", "2026112702", "1e-5 3.14159265", "RFC 7231 section 6.5.1",
    "pip install x==1.2.3", "build 120.0.6099.109", "10.1038/s41586-020-2649-2", "DE00 3704 0044 0532 0130 00",
    "550e8400-e29b-41d4-a716-446655440000", "0x80070005", "12.5 12.5 13.5 14.2", "",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PERSONAL)
def test_personal_data_is_masked_by_its_kind(text: str, expected: str) -> None:
    shown, kinds = masked(text)
    assert shown == expected
    assert kinds
    assert all(kind in NAMES for kind in kinds)
    assert masked(shown) == (shown, ())


@pytest.mark.parametrize("text", HARMLESS)
def test_other_numbers_and_addresses_stay(text: str) -> None:
    assert masked(text) == (text, ())


def test_kinds_are_told_in_words_once_each() -> None:
    _, kinds = masked("eve@example.org, bob@example.org and 203.0.113.7")
    assert in_words(kinds) == "an e-mail address, an IP address"


@pytest.mark.parametrize("before", [0, WINDOW - OVERLAP - 5, WINDOW - 5, WINDOW, 2 * WINDOW - OVERLAP - 9, 9_000])
def test_nothing_is_lost_where_windows_meet(before: int) -> None:
    said = "eve.with.a.rather.long.name@mail.example.org"
    text = ("word " * 2000)[:before] + " " + said + " and so on" * 300
    assert find(text) == (Found(before + 1, before + 1 + len(said), "EMAIL_ADDRESS"),)


def test_overlaps_are_one_of_the_longest_kind_and_of_the_likelier_if_equal() -> None:
    assert without_overlaps([Found(0, 5, "PHONE_NUMBER"), Found(2, 20, "IBAN_CODE"), Found(30, 31, "CRYPTO")]) == (
        Found(0, 20, "IBAN_CODE"),
        Found(30, 31, "CRYPTO"),
    )
    same = sorted([Found(0, 9, "US_SSN"), Found(0, 9, "PHONE_NUMBER")])
    assert without_overlaps(same) == (Found(0, 9, "US_SSN"),)


@given(st.text(max_size=400))
@settings(max_examples=50, deadline=None)
def test_only_what_was_found_changes(text: str) -> None:
    shown, kinds = masked(text)
    assert (shown == text) == (not kinds)
    for before, after in zip(find(text), find(text)[1:], strict=False):
        assert before.end <= after.begin


@pytest.mark.parametrize("unit", ["a@", "::", "a!", "1."])
def test_the_time_is_linear_in_the_length(unit: str) -> None:
    def seconds(length: int) -> float:
        began = time.process_time()
        find((unit * length)[:length])
        return time.process_time() - began

    find(unit)
    assert seconds(8_000) < max(8 * seconds(2_000), 0.2)


def test_nothing_is_fetched_and_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("something was to be fetched")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    personal_data._recognizers.cache_clear()
    caplog.set_level(logging.DEBUG)
    for text, _ in PERSONAL:
        masked(text)
    masked("IBAN ÄÖ89 3704 0044 0532 0130 00")
    assert "3704" not in caplog.text
    assert "eve@" not in caplog.text
