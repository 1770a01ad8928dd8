"""Sweeps over settings: grid sweeps, Optuna studies, reports and unfinished runs."""
