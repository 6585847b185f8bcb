"""The names of what can be done to images; nothing heavy is imported for them."""

COMMON = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
"""The 15 corruptions that benchmarks report."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 that were held out for validation."""
CORRUPTIONS = COMMON + EXTRA
SEVERITIES = (1, 2, 3, 4, 5)

NOISES = ("gaussian_noise", "shot_noise")
"""Perturbations whose frames are all compared with the first one."""
PERTURBATIONS = (
    *NOISES, "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate", "tilt",
    "scale",
)  # fmt: skip
"""The kinds of perturbation sequences, in the order of ImageNet-P."""
