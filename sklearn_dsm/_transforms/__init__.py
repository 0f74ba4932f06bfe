"""Bijections of a table's columns and rows with their Jacobians, and how they are fitted."""
