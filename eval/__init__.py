"""Zero-shot robustness evaluation: classifiers, shifts, attacks, metrics, overlap analysis."""
