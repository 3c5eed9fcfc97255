"""Files and folders on disks and in buckets: paths, requests, locks, checksums."""
