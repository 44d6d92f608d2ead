"""Models of behavior: fitted to tables of choices, compared, and tested by simulation."""
