"""Hazards of the recorder: being written (helper: hazards)."""
