"""Values every package exchanges; does no I/O, imports only numpy and the standard library."""
