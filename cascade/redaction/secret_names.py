"""Names that say that what stands under them is a secret, such as `password`."""

from __future__ import annotations

import re
from functools import lru_cache

# What a name ends with says what it is of: `accessToken`, `DBPassword`, `header:authorization`.
_NAME = re.compile(
    r".*(?:passw(?:or)?ds?|passphrase|secrets?|token|(?:api|access|secret|private)[\W_]?keys?)\W*"
    r"|(?:.*[\W_])?(?:authorization|cookies?|pwd|credentials?|bearer)\W*",
    re.IGNORECASE | re.DOTALL,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Without one of these JSON in a text names no secret, and need not be taken apart.
SECRET_HINT = re.compile("passw|passphrase|secret|token|key|authorization|cookie|pwd|credential|bearer", re.I)


@lru_cache(maxsize=1024)
def names_secret(name: str) -> bool:
    """Say whether what has that name is a secret."""
    return _NAME.fullmatch(_CAMEL.sub("_", name[-64:])) is not None
