"""Models of p(y given x): they classify, and generate nothing."""
