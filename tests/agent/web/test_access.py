"""Who may see what."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.web.access import AccessRules, Request, judge, own_location, session_value, sign_in_headers

TOKEN = "correct-horse-battery"
RULES = AccessRules(token=TOKEN, cookie="edgekit_8080", allowed_hosts=None)
LOOPBACK = AccessRules(token=None, cookie="edgekit_8080", allowed_hosts=())


def ask(path: str = "/", query: str = "", **headers: str) -> Request:
    return Request(path=path, query=query, headers={name.replace("_", "-"): text for name, text in headers.items()})


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"authorization": basic(TOKEN)},
        {"cookie": f"edgekit_8080={session_value(TOKEN)}"},
        {"cookie": f"other=1; edgekit_8080=old; edgekit_8080={session_value(TOKEN)}"},
    ],
)
def test_judge_passes_who_knows_the_token(headers: dict[str, str]) -> None:
    assert judge(ask(**headers), RULES) == "pass"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {session_value(TOKEN)}"},
        {"authorization": "Bearer \u00e9\u20ac"},
        {"authorization": basic(TOKEN.upper())},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic /w=="},
        {"authorization": TOKEN},
        {"cookie": f"edgekit_8080={TOKEN}"},
        {"cookie": f"edgekit_8081={session_value(TOKEN)}"},
        {"cookie": "edgekit_8080="},
    ],
)
def test_judge_refuses_who_does_not(headers: dict[str, str]) -> None:
    assert judge(ask(**headers), RULES) == "no_token"


@given(st.text())
def test_judge_refuses_any_other_token(guess: str) -> None:
    if guess.strip() != TOKEN:
        assert judge(ask(authorization=f"Bearer {guess}"), RULES) == "no_token"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/page.css"])
def test_judge_passes_health_without_a_token(path: str) -> None:
    assert judge(ask(path), RULES) == "pass"


def test_judge_moves_the_token_from_the_address_into_a_cookie() -> None:
    request = ask("/status", f"a=1&token={TOKEN}&b=x%26y")

    assert judge(request, RULES) == "sign_in"
    headers = dict(sign_in_headers(request, RULES))
    assert headers["location"] == "/status?a=1&b=x%26y"
    assert headers["set-cookie"].startswith(f"edgekit_8080={session_value(TOKEN)}; ")
    assert TOKEN not in headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert judge(ask("/status", "token=wrong"), RULES) == "no_token"


@given(st.text())
def test_own_location_stays_here_and_fits_a_header(path: str) -> None:
    location = own_location(path)

    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert location.isascii()
    assert location.isprintable()


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"]
)
def test_judge_passes_names_of_loopback(host: str) -> None:
    assert judge(ask(host=host), LOOPBACK) == "pass"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.7:8080",
        "0.0.0.0:8080", "localhost:8080:1", "[::1", "", "localhost@evil.example",
    ],
)  # fmt: skip
def test_judge_refuses_foreign_names_on_loopback(host: str) -> None:
    assert judge(ask(host=host), LOOPBACK) == "wrong_host"
    assert judge(ask("/healthz", host=host), LOOPBACK) == "wrong_host"


def test_judge_passes_a_foreign_name_when_it_is_allowed_or_nothing_is_on_loopback() -> None:
    allowed = AccessRules(token=None, cookie="c", allowed_hosts=("kitchen.local",))

    assert judge(ask(host="kitchen.local:443"), allowed) == "pass"
    assert judge(ask(host="bathroom.local"), allowed) == "wrong_host"
    assert judge(ask(host="kitchen.local", authorization=f"Bearer {TOKEN}"), RULES) == "pass"


def test_judge_refuses_what_another_sites_page_embeds_but_not_a_link() -> None:
    embedded = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
    linked = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}

    assert judge(ask("/stream.mjpg", **embedded), LOOPBACK) == "foreign_site"
    assert judge(ask("/", **linked), LOOPBACK) == "pass"
    assert judge(ask("/", sec_fetch_site="same-origin", sec_fetch_mode="cors"), LOOPBACK) == "pass"
