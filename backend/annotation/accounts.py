"""Accounts for further people of a Label Studio, made as people make them: by its sign-up page."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from backend.annotation.client import LabelStudioClient, errors_as_sentences, refusal
from backend.errors import LabelStudioError


def sign_up(client: LabelStudioClient, email: str, password: str) -> str:
    """Make an account by the invitation link of the organization; return its legacy token.

    Args:
        client: Label Studio, with the key of somebody who may invite.
        email: Of the new person.
        password: At least 8 characters.

    Raises:
        LabelStudioError: The account exists, or Label Studio refuses it.
    """
    with errors_as_sentences(client.url):
        invitation = client.http.get("/api/invite")
        if invitation.is_error:
            raise refusal(client.url, invitation.status_code, "the invitation link")
        page = urlsplit(invitation.json()["invite_url"])
        wait = client.http.timeout
        with httpx.Client(base_url=client.url, timeout=wait, trust_env=False) as browser:
            _fill_in(browser, f"{page.path}?{page.query}", {"email": email, "password": password})
            answer = browser.get("/api/current-user/token")
    if answer.is_error:
        raise refusal(client.url, answer.status_code, f"the account {email}, does it exist?")
    return str(answer.json()["token"])


def _fill_in(browser: httpx.Client, page: str, form: dict[str, str]) -> None:
    """Send the form of a page, which leaves a session cookie in `browser`."""
    browser.get(page)
    secret = browser.cookies.get("csrftoken")
    if secret is None:
        raise LabelStudioError(f"{browser.base_url} shows no sign-up page: is it Label Studio?")
    answer = browser.post(
        page,
        data={**form, "csrfmiddlewaretoken": secret},
        headers={"Referer": str(browser.base_url)},
    )
    if answer.is_error:
        raise refusal(browser.base_url, answer.status_code, "sign-up")
