"""Scores, statistics, claims, tables, figures and the HTML report. Torch-free."""
