"""How fast `dedup` is, as ratios measured in one run: `make bench PHOTOS=FOLDER`. Nothing here is installed."""
