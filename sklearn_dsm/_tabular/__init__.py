"""Tables of mixed columns: what a column holds, and its law given any of the others."""
