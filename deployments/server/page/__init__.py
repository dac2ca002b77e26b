"""The page at `/`, and what pages for people are made of: templates that escape everything, styles, one script."""
