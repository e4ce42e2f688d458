"""Class profile of the Wisconsin Diagnostic rows, which guards the first batches of a volume.

Computed by `ClassProfile.of_rows` from the 569 public rows, to five digits; a test computes it
again.
"""

from __future__ import annotations

from bc_pipeline.problems.class_profile import ClassProfile

# Mean of malignant rows, mean of benign rows, standard deviation within a class.
_FEATURES: dict[str, tuple[float, float, float]] = {
    "mean_radius": (17.463, 12.147, 2.4105),
    "mean_texture": (21.605, 17.915, 3.9163),
    "mean_perimeter": (115.37, 78.075, 16.287),
    "mean_area": (978.38, 462.79, 248.4),
    "mean_smoothness": (0.1029, 0.092478, 0.013141),
    "mean_compactness": (0.14519, 0.080085, 0.042424),
    "mean_concavity": (0.16077, 0.046058, 0.057265),
    "mean_concave_points": (0.08799, 0.025717, 0.024466),
    "mean_symmetry": (0.19291, 0.17419, 0.025897),
    "mean_fractal_dimension": (0.06268, 0.062867, 0.007066),
    "radius_error": (0.60908, 0.28408, 0.2286),
    "texture_error": (1.2109, 1.2204, 0.55212),
    "perimeter_error": (4.3239, 2.0003, 1.6818),
    "area_error": (72.672, 21.135, 38.079),
    "smoothness_error": (0.0067801, 0.0071959, 0.0029984),
    "compactness_error": (0.032281, 0.021438, 0.017137),
    "concavity_error": (0.041824, 0.025997, 0.029224),
    "concave_points_error": (0.01506, 0.0098577, 0.0056382),
    "symmetry_error": (0.020472, 0.020584, 0.0082735),
    "fractal_dimension_error": (0.0040624, 0.0036361, 0.0026403),
    "worst_radius": (21.135, 13.38, 3.0485),
    "worst_texture": (29.318, 23.515, 5.472),
    "worst_perimeter": (141.37, 87.006, 20.924),
    "worst_area": (1422.3, 558.9, 387.13),
    "worst_smoothness": (0.14485, 0.12496, 0.020724),
    "worst_compactness": (0.37482, 0.18267, 0.12703),
    "worst_concavity": (0.45061, 0.16624, 0.15694),
    "worst_concave_points": (0.18224, 0.074444, 0.040032),
    "worst_symmetry": (0.32347, 0.27025, 0.056301),
    "worst_fractal_dimension": (0.09153, 0.079442, 0.017103),
}

WDBC_PROFILE = ClassProfile(
    positive=tuple(mean for mean, _, _ in _FEATURES.values()),
    negative=tuple(mean for _, mean, _ in _FEATURES.values()),
    spread=tuple(spread for _, _, spread in _FEATURES.values()),
    slope=0.15108,
    offset=0.22639,
)
