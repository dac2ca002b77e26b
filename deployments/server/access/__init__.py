"""Who may ask, how often, and what a signed link opens."""
