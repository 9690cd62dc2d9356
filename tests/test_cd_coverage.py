"""Claims about CDs, held against the truth."""

import numpy as np
import pytest

from backend.metrology.cd_coverage import Claim, claims_on, fitting_factor, tell_coverage
from backend.microscope.synthetic import make_image


def test_claims_are_made_at_each_turn():
    """Of widths and heights, with an error and an uncertainty of some pixels at most."""
    claims = list(claims_on(make_image("gate", "A", 1, (128, 128)), turns=2))
    assert {claim.turn for claim in claims} == {0, 1}
    assert {"width", "height"} <= {claim.kind for claim in claims}
    assert all(0 <= claim.scatter_px < claim.u_px < 50 for claim in claims)
    assert all(0 <= claim.error_px < 50 for claim in claims)
    assert any(claim.error_px > 0 for claim in claims)


@pytest.mark.parametrize("scatter", [0.5, 1.0, 3.0])
def test_factor_is_how_much_errors_exceed_what_is_claimed(scatter):
    """Errors that scatter so many times as much as was claimed ask for that factor."""
    errors = np.abs(np.random.default_rng(0).normal(0, scatter, 20000))
    claims = [Claim("width", 0, 1.0, 1.4, float(error)) for error in errors]
    assert fitting_factor(claims) == pytest.approx(0.98 * scatter, rel=0.03)


def test_table_tells_how_often_the_truth_is_within():
    """Three of four widths, the uncertainty as it is told."""
    errors = [0.0, 1.4, 1.99 * 1.4, 2.01 * 1.4]
    *_, row, every = tell_coverage([Claim("width", 0, 1.0, 1.4, error) for error in errors])
    assert row.startswith("| width | 4 |")
    assert "| 75% |" in row
    assert every.startswith("| all | 4 |")
