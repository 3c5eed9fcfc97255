"""Plans what a run needs before a device is rented, and reads what profiles recorded."""
