"""How data turn into noise: one level, the processes, which levels are drawn, conversions."""
