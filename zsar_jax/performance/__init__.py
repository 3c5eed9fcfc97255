"""What a run needs and how fast it can be, before any device is rented."""
