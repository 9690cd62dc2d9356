"""Accounts for a team: made by the invitation link of a real Label Studio."""

import secrets

import pytest

from backend.annotation.accounts import sign_up
from backend.annotation.client import LabelStudioClient
from backend.errors import LabelStudioError


def test_new_person_may_work(workplace):
    """With a key of one's own, and not as the one who invited."""
    email = f"new-{secrets.token_hex(4)}@example.com"
    key = sign_up(workplace.client, email, secrets.token_urlsafe(12))

    with LabelStudioClient(workplace.url, key) as client:
        assert client.sdk.users.whoami().email == email
        assert list(client.sdk.projects.list())


def test_account_that_exists_is_refused(workplace):
    """Its password is not ours to guess."""
    with pytest.raises(LabelStudioError, match="does it exist"):
        sign_up(workplace.client, workplace.keys.email, secrets.token_urlsafe(12))


def test_who_may_not_invite_is_told(workplace):
    """A wrong key."""
    with (
        LabelStudioClient(workplace.url, "0" * 40) as stranger,
        pytest.raises(LabelStudioError, match="401"),
    ):
        sign_up(stranger, "nobody@example.com", secrets.token_urlsafe(12))
