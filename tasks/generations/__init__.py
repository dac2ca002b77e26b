"""Generations: which index is built, live and kept, and with which settings. Both wings import it."""
