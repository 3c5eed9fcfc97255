"""Where clips come from: one module for each data set's lists, all ending in a `Listing`."""
