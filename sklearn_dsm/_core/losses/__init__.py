"""Score-matching losses, one file each, and the targets that they regress on."""
