"""What the flags of runs and of CDs say, for readers who did not write this program."""

from __future__ import annotations

MEANINGS = {
    # of an image
    "anisotropic": "a pixel is not as wide as high; lengths take both into account",
    "corrected_scale": "a user gave this scale in place of the one measured with before",
    "model_error": "u_value holds what the model was off on images with drawn labels",
    "no_align": "the reference is too short, steep or uneven: the frame is that of the image",
    "scale_conflict": "two sources of the pixel size differ by more than 1 %: see calibrations",
    "trained_on": "the model has learned from this image: how right it is here says little",
    "uncalibrated": "no pixel size is known: pixels only",
    "unexpected_count": "fewer or more of the structure than the recipe expects",
    "uneven_pitch": "a gap is over 1.5 times the image's median: a structure may be lost in it",
    "unknown_gamma": "gray values may not be linear: the label places all edges",
    # why gray values, or probabilities, place no edge, so that the next tier does
    "ambiguous_edge": "two edges fit the gray values equally well",
    "clipped": "gray values beside the edge are at a limit of the detector",
    "crowded": "the next edge is too near for the level before it to be known",
    "low_cnr": "too little contrast for the noise",
    "max_shift": "the edge in the gray values is further from the label than max_shift_px: look",
    "no_edge": "no edge was found in the window",
    "no_seed": "no straight label edge to begin with",
    "parts_differ": "two parts of the edge give different places",
    "poor_fit": "the gray values are no blurred step: fringe, overlap or graded interface",
    "too_few_lines": "fewer than 5 lines, or than 60 % of those asked for",
    "wrong_contrast": "the levels beside the edge are not those of the materials",
    # of a value
    "border": "the structure touches the border of the image",
    "edge_asymmetry": "one wall is much more blurred than the other: seen through the foil?",
    "grid_locked": "the edge runs along the pixels: the label knows it to a pixel only",
    "label_gray_disagree": "gray values and label differ too much: the label's value is reported",
    "no_uncertainty": "its uncertainty is not known",
    "not_finite": "a figure is missing, since it is infinite or undefined",
    "one_neighbour": "compared with one neighbour only: tilt does not cancel",
    "other_base": "it stands on something else than the recipe says",
    "partial": "some of the values it is computed from are missing",
    "short_line": "shorter than 512 px: roughness of so short a line varies by chance",
    "small_radius": "the radius is of the size of the blur",
    "thin_film": "too thin for its gray level to be told apart: the label measures",
    "unlabeled": "pixels in or beside the structure have no label",
    "unresolved": "too thin to be resolved",
    "unverified": "a model's label, which nobody has looked at",
    # why there is no value
    "at_border": "not found within the image; what its border cuts is left out by the recipe",
    "inset_too_large": "the insets leave nothing of the film",
    "no_corner": "no round corner between two straight edges",
    "no_film": "no film at this place",
    "no_height": "its top is not above its base",
    "no_neighbour": "nothing to measure to there, or what is there belongs to another instance",
    "no_operand": "what it is computed from is missing",
    "no_outline": "no outline that encloses an area",
    "not_between": "the film does not lie between the two materials there",
    "not_found": "the structure is not in the image",
    "outside": "the place lies outside of the structure",
}
"""By flag; of one with a colon, the part before it."""


def meaning(flag: str) -> str:
    """What a flag says; "" if nobody has written it down.

    Example:
        >>> meaning("unexpected_count:gate")
        'fewer or more of the structure than the recipe expects'
    """
    return MEANINGS.get(flag.split(":")[0], "")
