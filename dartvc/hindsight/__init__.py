"""Hindsight: a log statement written today, with its values from every run of the past."""
