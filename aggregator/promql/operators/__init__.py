"""The operators: pure functions from matrices to a matrix, without loops over series or steps."""
