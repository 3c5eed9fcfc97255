"""Studies of static bias: many runs, one evaluation of all of them, one report."""
