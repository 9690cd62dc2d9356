"""The secret by which webhooks of Label Studio are known; it opens `/webhook` and nothing else.

Every user of Label Studio may read the headers of a webhook, but not the password of a backend. So
webhooks carry a secret of their own, which is made from the password but does not tell it.
"""

from __future__ import annotations

import hashlib

HEADER = "X-TEM-Guide-Secret"

_SALT = b"tem-guide webhook"
_COST = 2**14  # with blocks of 8: 16 MB and some 50 ms for each password that is guessed


def webhook_secret(user: str, password: str) -> str:
    """Make the secret, 64 hex digits, always the same for a user and a password.

    Example:
        >>> len(webhook_secret("label-studio", "a long password"))
        64
    """
    given = f"{user}:{password}".encode()
    return hashlib.scrypt(given, salt=_SALT, n=_COST, r=8, p=1, dklen=32).hex()
