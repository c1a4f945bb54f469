"""Which stored states a version of a function takes."""

import pytest

from edged.core.takes import Takes


@pytest.mark.parametrize(
    ("schema", "upgrades", "fits"),
    [
        (0, False, True),
        (2, False, True),
        (1, True, True),
        (1, None, True),
        (1, False, False),
        (3, True, False),
        (3, None, False),
    ],
)
def test_every_case(schema: int, upgrades: bool | None, fits: bool) -> None:
    """No state and one's own form always; an older one with an upgrade, or until it is known that there is none; a newer
    one never."""
    assert (Takes(2, upgrades).refusal(schema) == "") == fits
