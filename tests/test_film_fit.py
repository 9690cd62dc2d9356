"""Joint film fits: unbiased where separate edges are not, and silent where nothing can be known."""

import numpy as np
import pytest
from gray_edges import layers, missed_px, seed_line
from scipy import ndimage as ndi

from backend.metrology.edge_fit import Plateau, SideFitSettings, fit_side
from backend.metrology.film_fit import FilmFitSettings, Known, eroded, fit_film, thick_gray

LEVELS = (120, 220, 60)
SHAPE = (68, 60)
FILM_GRAY = Known(220)


def trials(thickness_px, count=30, levels=LEVELS, noise=10.0, **known):
    """Fit noisy films of random place, slope and seed."""
    rng = np.random.default_rng(2)
    for _ in range(count):
        place, slope = 30 + rng.uniform(-0.5, 0.5), rng.uniform(-0.06, 0.06)
        places = [place, place + thickness_px * np.hypot(1, slope)]
        image = layers(levels, places, SHAPE, slope) + rng.normal(0, noise, SHAPE)
        seed = seed_line(place, SHAPE, slope, wrong_px=rng.uniform(-1, 1))
        wrong_px = rng.uniform(-0.7, 0.7)
        yield fit_film(image, *seed, thickness_px + wrong_px, FilmFitSettings(**known))


@pytest.mark.parametrize(
    ("thickness_px", "known", "spread_px"),
    [
        (9.0, {}, 0.1),
        (6.6, {"film_gray": FILM_GRAY}, 0.06),
        (4.0, {"film_gray": FILM_GRAY}, 0.06),
        (2.0, {"film_gray": FILM_GRAY}, 0.07),
    ],
)
def test_thickness_is_unbiased_and_its_uncertainty_honest(thickness_px, known, spread_px):
    """Goal G6: thick films on their own, thin ones with their gray level."""
    fits = list(trials(thickness_px, **known))
    errors = np.array([fit.thickness_px for fit in fits]) - thickness_px
    told = np.sqrt(np.mean([fit.u_px**2 for fit in fits]))
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(30)
    assert abs(errors.mean()) < 0.05
    assert errors.std() < spread_px
    assert 0.7 < told / errors.std() < 1.6


@pytest.mark.parametrize("slope", [0.0, 0.08, -0.5])
def test_clean_film_is_found_exactly(slope):
    """Its first interface, its thickness, its levels."""
    places = [30.3, 30.3 + 8.4 * np.hypot(1, slope)]
    image = layers(LEVELS, places, slope=slope)
    fit = fit_film(image, *seed_line(30.9, slope=slope), 7.5)
    assert fit.thickness_px == pytest.approx(8.4, abs=5e-3)
    assert missed_px(fit, 30.3, slope=slope) == pytest.approx(0, abs=5e-3)
    assert (fit.left_gray, fit.film_gray, fit.right_gray) == pytest.approx(LEVELS, abs=0.2)


def test_two_separate_edge_fits_would_be_wrong_or_are_refused():
    """Trap T5: at 4.3 sigma each edge pulls the other's plateau."""
    image = layers(LEVELS, [30.3, 36.7])
    settings = SideFitSettings(window_px=7)
    left, right = (fit_side(image, *seed_line(place), settings) for place in (30.3, 36.7))
    separate = missed_px(right, 36.7) - missed_px(left, 30.3) if right != "ambiguous_edge" else -1
    joint = fit_film(image, *seed_line(30.3), 6.4)
    assert abs(joint.thickness_px - 6.4) < 0.01 < abs(separate)
    near = SideFitSettings(room_px=(np.inf, 5.5))
    assert fit_side(image, *seed_line(30.3), near) == "crowded"


@pytest.mark.parametrize(("thickness_px", "flag"), [(4.0, "thin_film"), (2.0, "unresolved")])
def test_thin_film_without_gray_level_is_refused(thickness_px, flag):
    """A value would be off by a tenth of it or more."""
    fits = list(trials(thickness_px, 10))
    assert flag in fits
    assert set(fits) <= {"thin_film", "unresolved"}


def test_monotonic_steps_hide_a_thin_film():
    """Dark, middle, bright: a thin film looks like one soft edge, with any thickness."""
    fits = set(trials(2.5, 10, levels=(100, 150, 200)))
    assert fits <= {"unresolved", "thin_film", "no_edge"}


def test_error_of_the_known_gray_level_counts():
    """One that is 10 too high moves a film of 7.2 px, and the uncertainty says so."""
    places = [30.3, 37.5]
    image = layers(LEVELS, places) + np.random.default_rng(0).normal(0, 4, (80, 60))
    fit = fit_film(image, *seed_line(30.3), 7.0, FilmFitSettings(film_gray=Known(230, 10)))
    sure = fit_film(image, *seed_line(30.3), 7.0, FilmFitSettings(film_gray=Known(230)))
    assert fit.thickness_px == sure.thickness_px
    assert fit.u_px > 2 * sure.u_px
    assert sure.u_px < abs(fit.thickness_px - 7.2) < fit.u_px


def test_a_gray_level_that_could_be_a_neighbours_gives_no_thickness():
    """20 or, as likely, the 120 of what lies before it: a value without an error is none."""
    levels = (120, 20, 200)
    image = layers(levels, [30.3, 37.5]) + np.random.default_rng(0).normal(0, 4, (80, 60))
    sure, unsure = (fit_film(image, *seed_line(30.3), 7.0, FilmFitSettings(film_gray=Known(20, u)))
                    for u in (5, 100))  # fmt: skip
    assert sure.u_px < 0.5
    assert unsure == "no_edge"


def test_another_materials_levels_are_refused():
    """The label says what the neighbours look like."""
    image = layers(LEVELS, [30.3, 39.0])
    settings = FilmFitSettings(left=Plateau(60), right=Plateau(120))
    assert fit_film(image, *seed_line(30.3), 8.7, settings) == "wrong_contrast"
    right = FilmFitSettings(left=Plateau(120, 3), right=Plateau(60, 3))
    assert fit_film(image, *seed_line(30.3), 8.7, right).thickness_px == pytest.approx(
        8.7, abs=0.01
    )


def test_film_outside_the_image_is_refused():
    """No pixels, no thickness."""
    image = layers(LEVELS, [30.3, 39.0])
    assert fit_film(image, (200.0, 30.0), (150.0, 30.0), 8.7) == "too_few_lines"


def test_film_gray_is_read_where_the_film_is_thick():
    """Six sigma and more, away from both interfaces; a thin film has no such place."""
    image = layers(LEVELS, [20.0, 35.0], sigma_px=1.2)
    columns = np.broadcast_to(np.arange(60), (80, 60))
    film = (columns > 20) & (columns < 35)
    assert thick_gray(image, film, 1.2).gray == pytest.approx(220, abs=0.5)
    assert thick_gray(image, film, 3.0) is None


@pytest.mark.parametrize("radius_px", [1.0, 3.54, 4.5, 70.0])
def test_eroding_is_what_a_map_of_distances_gives(radius_px):
    """Pixels further than the radius from the nearest one outside."""
    mask = ndi.gaussian_filter(np.random.default_rng(0).normal(size=(60, 50)), 6) > -0.02
    far = ndi.distance_transform_edt(mask) > radius_px
    assert (eroded(mask, radius_px) == far).all()


def test_spread_of_a_films_gray_is_that_between_places():
    """Noise of pixels averages out over 5 x 5 of them; a gradient from place to place remains."""
    film = np.ones((60, 60), dtype=bool)
    noisy = np.random.default_rng(0).normal(220, 10, (60, 60))
    assert thick_gray(noisy, film, 1.5).spread == pytest.approx(10 / 5, rel=0.3)
    sloped = noisy + np.linspace(-40, 40, 60)
    assert thick_gray(sloped, film, 1.5).spread > 15
