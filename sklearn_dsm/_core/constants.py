"""Numbers that formulas of several modules share."""

import math

LOG_2PI = math.log(2 * math.pi)
