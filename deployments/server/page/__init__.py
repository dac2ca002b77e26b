"""The page at `/`, and what pages for people are made of: templates in which everything is escaped, styles, a script."""
