"""Analysis of runs: tables, statistics, figures, reports, and models of behavior."""
