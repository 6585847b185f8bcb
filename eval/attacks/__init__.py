"""Attacks on classifiers, in pixels: one loop for those that walk, wrappers for the rest.

`registry.find_attack` finds one by name; every attack answers with a `trail.Verdict`.
"""
