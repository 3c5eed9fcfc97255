"""Lists the clips of data sets: one module for each format of lists, each giving a `Listing`."""
