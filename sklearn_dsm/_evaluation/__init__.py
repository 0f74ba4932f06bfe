"""A fitted score model evaluated on its device, in chunks, in the units of the input."""
