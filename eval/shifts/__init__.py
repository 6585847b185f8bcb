"""Shifts that are made here: corruptions, perturbation sequences, words written on images."""
