"""Gray fits of straight sides: unbiased, honest about their error, on the edge that is meant."""

import numpy as np
import pytest
from gray_edges import angle_deg, layers, missed_px, seed_line
from scipy import ndimage as ndi

from backend.metrology.edge_fit import Plateau, SideFitSettings, fit_side
from backend.metrology.edge_shapes import EdgeShape, Skin

DARK_LEFT = SideFitSettings(left=Plateau(100), right=Plateau(200))


def trials(count, noise=10.0, grain_px=0.0, wrong_px=1.0, sigma_px=1.5, rows=60):
    """Fit noisy edges of random phase and slope; yields fit, error (px), error (deg)."""
    rng = np.random.default_rng(5)
    shape = (rows + 20, 60)
    for _ in range(count):
        slope, place = rng.uniform(-0.1, 0.1), 30 + rng.uniform(-0.5, 0.5)
        image = layers((100, 200), [place], shape, slope, sigma_px)
        dirt = rng.standard_normal(shape)
        if grain_px:
            dirt = ndi.gaussian_filter(dirt, grain_px)
        seed = seed_line(place, shape, slope, wrong_px=rng.uniform(-wrong_px, wrong_px))
        fit = fit_side(image + noise * dirt / dirt.std(), *seed, DARK_LEFT)
        missed_deg = angle_deg(fit) - np.degrees(np.arctan(slope))
        yield fit, missed_px(fit, place, shape, slope), missed_deg


@pytest.mark.parametrize("slope", [0.0, 0.03, -0.4, 0.9])
@pytest.mark.parametrize("wrong_px", [-2.0, 0.0, 2.0])
def test_clean_edge_is_found_exactly(slope, wrong_px):
    """Whatever its phase and direction, from a seed up to 2 px away."""
    image = layers((100, 200), [30.37], slope=slope)
    seed = seed_line(30.37, slope=slope, wrong_px=wrong_px)
    fit = fit_side(image, *seed, DARK_LEFT)
    assert missed_px(fit, 30.37, slope=slope) == pytest.approx(0, abs=2e-3)
    assert angle_deg(fit) == pytest.approx(np.degrees(np.arctan(slope)), abs=2e-3)
    assert fit.sigma_px == pytest.approx(1.5, abs=5e-3)
    assert (fit.left_gray, fit.right_gray) == pytest.approx((100, 200), abs=0.1)
    assert fit.shift_px == pytest.approx(abs(wrong_px) / np.hypot(1, slope), abs=0.01)


@pytest.mark.parametrize("wrong_px", [-2.0, 0.0, 2.0])
def test_an_edge_with_skins_is_found_by_its_shape(wrong_px):
    """A plain step settles half a pixel inside the skin."""
    shape = EdgeShape(Skin(0.1, 3.0), Skin(-0.4, 5.0))
    image = layers((100, 200), [30.37], slope=0.03, edges=[shape])
    seed = seed_line(30.37, slope=0.03, wrong_px=wrong_px)
    fit = fit_side(image, *seed, SideFitSettings(shape=shape))
    plain = fit_side(image, *seed)
    assert missed_px(fit, 30.37, slope=0.03) == pytest.approx(0, abs=0.01)
    assert fit.sigma_px == pytest.approx(1.5, abs=0.02)
    assert abs(missed_px(plain, 30.37, slope=0.03)) > 0.4


def test_flat_and_steep_edges_are_fitted_alike():
    """Rows and columns change places."""
    image = layers((100, 200), [30.37], shape=(60, 60), slope=0.05)
    seed = seed_line(30.37, (60, 60), 0.05)
    steep = fit_side(image, *seed)
    flat = fit_side(image.T, *[point[::-1] for point in seed])
    assert flat.start == pytest.approx(steep.start[::-1], abs=1e-6)
    assert flat.left_gray == pytest.approx(steep.right_gray)


def test_noisy_edges_are_unbiased_and_close_to_the_bound():
    """Goals G4, G5 and G7, and nobody beats Cramer and Rao."""
    errors = list(trials(50, wrong_px=2.0))
    offsets = np.array([error for _, error, _ in errors])
    angles = np.array([error for *_, error in errors])
    bound = 10 / 100 * np.sqrt(2 * np.sqrt(np.pi) * 1.5) / np.sqrt(60)
    assert abs(offsets.mean()) < 3 * offsets.std() / np.sqrt(50)
    assert 0.8 * bound < offsets.std() < 1.7 * bound
    assert 3 * offsets.std() * np.sqrt(2) < 0.25  # of a width
    assert 3 * angles.std() < 0.5


@pytest.mark.parametrize(
    ("noise", "grain_px", "sigma_px", "rows"),
    [(10, 0, 1.5, 60), (30, 0, 1.5, 40), (10, 0, 0.8, 20), (10, 1.0, 1.5, 60), (8, 2.0, 1.2, 60)],
)
def test_uncertainty_is_honest(noise, grain_px, sigma_px, rows):
    """0.7 to 1.5 times the spread that repeating shows, with noise that neighbours share too."""
    fits = list(trials(50, noise, grain_px, 1.0, sigma_px, rows))
    spread = np.std([error for _, error, _ in fits])
    spread_deg = np.std([error for *_, error in fits])
    told = np.sqrt(np.mean([fit.u_px() ** 2 for fit, *_ in fits]))
    told_deg = np.degrees(np.sqrt(np.mean([fit.covariance[1, 1] for fit, *_ in fits])))
    assert 0.7 < told / spread < 1.5
    assert 0.7 < told_deg / spread_deg < 1.5


def test_uncertainty_grows_towards_the_ends():
    """The slope's share adds to that of the offset."""
    (fit, *_), *_ = trials(1)
    assert fit.u_px(30) == pytest.approx(
        np.hypot(fit.u_px(), 30 * fit.covariance[1, 1] ** 0.5), rel=0.2
    )


def test_edge_of_the_wrong_polarity_is_refused():
    """Bright to dark is not dark to bright."""
    image = layers((200, 100), [30.0])
    assert fit_side(image, *seed_line(30.0), DARK_LEFT) == "wrong_contrast"


def test_grain_inside_a_material_is_refused():
    """A border of grains of 25 % contrast, close to the seed, is not the material's border."""
    image = layers((190, 215), [30.0])
    assert fit_side(image, *seed_line(31.0), DARK_LEFT) == "wrong_contrast"
    assert not isinstance(fit_side(image, *seed_line(31.0)), str)  # nobody said what is expected


def test_true_edge_wins_over_a_grain_beside_it():
    """The seed lies between the edge and a weaker border of a grain 5 px inside."""
    image = layers((100, 200, 180), [30.0, 35.0])
    fit = fit_side(image, *seed_line(30.0, wrong_px=1.5), DARK_LEFT)
    assert missed_px(fit, 30.0) == pytest.approx(0, abs=0.2)


def test_two_edges_of_equal_strength_are_ambiguous():
    """A line half-way between the two walls of a groove has no better one."""
    image = layers((300, 100, 300), [26.5, 33.5], sigma_px=0.8)
    assert fit_side(image, *seed_line(30.0)) == "ambiguous_edge"


def test_known_neighbour_is_kept_out_of_the_window():
    """Room to the next edge narrows the window; too little of it asks for a joint fit."""
    image = layers((100, 200, 20), [30.0, 37.0])
    fit = fit_side(image, *seed_line(30.5), SideFitSettings(room_px=(np.inf, 6.5)))
    assert missed_px(fit, 30.0) == pytest.approx(0, abs=0.05)
    near = layers((100, 200, 20), [30.0, 34.0])
    settings = SideFitSettings(room_px=(np.inf, 3.5))
    assert fit_side(near, *seed_line(30.5), settings) == "crowded"


def test_unknown_neighbour_is_seen_and_kept_out():
    """Nobody told of the layer that begins 9 px away; its edge must not pull."""
    image = layers((100, 200, 60), [30.0, 38.0], sigma_px=1.2)
    image += np.random.default_rng(0).normal(0, 5, image.shape)
    fit = fit_side(image, *seed_line(30.5), SideFitSettings(window_px=12))
    assert missed_px(fit, 30.0) == pytest.approx(0, abs=0.1)


def test_plateaus_may_drift_along_the_edge():
    """A wedge that doubles the contrast from end to end moves nothing."""
    image = layers((100, 200), [30.3], slope=0.05)
    image *= np.linspace(0.7, 1.4, 80)[:, None]
    fit = fit_side(image, *seed_line(30.3, slope=0.05))
    assert missed_px(fit, 30.3, slope=0.05) == pytest.approx(0, abs=0.01)
    assert angle_deg(fit) == pytest.approx(np.degrees(np.arctan(0.05)), abs=0.02)


def test_dead_pixels_do_not_pull():
    """A few percent of very wrong values cost next to nothing."""
    image = layers((100, 200), [30.3])
    image += np.random.default_rng(1).normal(0, 5, image.shape)
    image[15:65:6, 32] = 2000
    assert missed_px(fit_side(image, *seed_line(30.3)), 30.3) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("clipped_at", "sigmas"), [(0.65, 0.29), (0.60, 0.43)])
def test_clipping_moves_an_edge(clipped_at, sigmas):
    """Trap T6: why the original values are fitted, not those stretched for the eye."""
    clipped = np.minimum(layers((0.25, 0.75), [30.3]), clipped_at)
    fit = fit_side(clipped, *seed_line(30.3))
    assert missed_px(fit, 30.3) == pytest.approx(-1.5 * sigmas, abs=0.03)


def test_display_gamma_moves_both_edges_of_a_line():
    """Trap T7: a dark line stored with gamma 0.5 seems narrower by more than half a pixel."""
    places = (20.2, 40.2)
    for power, change in ((1.0, 0.0), (0.5, -0.97)):
        image = layers((1.0, 0.1, 1.0), places) ** power
        left, right = (fit_side(image, *seed_line(place)) for place in places)
        width = missed_px(right, 40.2) - missed_px(left, 20.2)
        assert width == pytest.approx(change, abs=0.05)


@pytest.mark.parametrize(
    ("seed", "failure"),
    [
        ([(-30.0, 30.0), (-2.0, 30.0)], "too_few_lines"),
        ([(30.0, 30.0), (27.0, 30.0)], "too_few_lines"),
    ],
)
def test_seed_outside_the_image_or_too_short_is_refused(seed, failure):
    """At least five lines."""
    assert fit_side(layers((100, 200), [30.0]), *seed) == failure


def test_nothing_is_found_where_nothing_is():
    """Noise alone gives a reason, or an edge below any contrast that a caller accepts."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        image = rng.normal(100, 10, (80, 60))
        assert fit_side(image, *seed_line(30.0), DARK_LEFT) in {
            "wrong_contrast", "ambiguous_edge", "no_edge", "crowded",
        }  # fmt: skip
    assert isinstance(fit_side(np.full((80, 60), 7), *seed_line(30.0), DARK_LEFT), str)
